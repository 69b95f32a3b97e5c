"""Folders for the Hugging Face Hub: weights, their model card, their ONNX file and what they score.

    config.json           the variant and the refiner
    model.safetensors     the weights, with what they were trained on in its metadata
    model.onnx            the same for ONNX Runtime, compared with JAX (model.onnx.parity.json)
    README.md             the card: licence, data, scores, how to use it
    .eval_results/*.yaml  the scores, as the Hub reads them

Written without the Hub's package: `hf upload owner/name DIR` sends it.
"""

import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rvm_jax.errors import InputError
from rvm_jax.evaluation import baseline_table
from rvm_jax.evaluation.rows import ResultRow, mean_and_deviation
from rvm_jax.evaluation.scoreboard import linked, markdown
from rvm_jax.export.export import export
from rvm_jax.host.files import replacing
from rvm_jax.host.paths import Location
from rvm_jax.weights.files import Weights, read_network, write_weights
from rvm_jax.weights.hub_folders import CONFIG, WEIGHTS
from rvm_jax.weights.names import digest
from rvm_jax.weights.provenance import Provenance

CARD, RESULTS, ONNX = "README.md", ".eval_results", "model.onnx"
VERSION = "rvm_jax_version"
"""In `config.json`: by which version the folder was written."""
TAGS = ("video-matting", "background-removal", "jax", "flax", "pytorch", "onnx", "robust-video-matting")


def export_to_hub(
    source: Location,
    folder: Path,
    *,
    row: ResultRow | None = None,
    licence: str | None = None,
    clip: Path | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the folder of a network.

    Args:
      source: weights, as `rvm_jax.load` takes them.
      folder: what to write; one of that name is replaced with `overwrite`, if it is such a folder.
      row: what they score, as `rvm evaluate --row` wrote it.
      licence: under which they are published, as the Hub abbreviates it; by default the card says that it is unknown.
      clip: what the ONNX file is compared on; by default drawn.
      overwrite: whether to replace an existing folder.

    Returns:
      The parity report of the ONNX file.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, and a folder would be written: choose another name")
    if folder.is_dir() and any(folder.iterdir()) and not _written_here(folder):
        raise InputError(f"{folder} is a folder that holds other things than a network: choose another name")
    loaded = read_network(source)
    _check_row(row, loaded, source)
    with replacing(folder, overwrite=overwrite) as partial:
        partial.mkdir()
        write_weights(loaded, partial / WEIGHTS)
        config = {"variant": loaded.variant.name, "refiner": loaded.refiner, VERSION: version("rvm-jax")}
        (partial / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
        report = export(partial / WEIGHTS, partial / ONNX, "onnx", clip=clip)
        (partial / CARD).write_text(card(folder.resolve().name, loaded, row, licence), encoding="utf-8")
        if row is not None:
            (partial / RESULTS).mkdir()
            for name, text in results(row).items():
                (partial / RESULTS / f"{name}.yaml").write_text(text, encoding="utf-8")
    return report


def card(name: str, weights: Weights, row: ResultRow | None, licence: str | None) -> str:
    """The model card: front matter as YAML, then Markdown."""
    told = weights.provenance
    front: dict[str, Any] = {
        "license": licence or "unknown",
        "library_name": "rvm-jax",
        "pipeline_tag": "image-segmentation",
        "tags": list(TAGS),
        "datasets": [one.dataset for one in told.data] if told else [],
        "metrics": list(dict.fromkeys(metric for one in row.testsets for metric in one.scores)) if row else [],
    }
    lines = [f"{key}: {json.dumps(value)}" for key, value in front.items() if value]
    parts = [
        "---\n" + "\n".join(lines) + "\n---",
        f"# {name}",
        f"Robust video matting ({weights.describe()}): cuts people out of video in real time, without a green screen, "
        "and remembers what it saw from frame to frame. Made with rvm-jax.",
        "## Licence and data",
        _licence(licence),
        _data(told),
        "## Scores",
        _scores(row),
        "## Use",
        _use(name),
    ]
    return "\n\n".join(parts) + "\n"


def results(row: ResultRow) -> dict[str, str]:
    """The files of results, a YAML text by name for each test set: an entry for each metric, of all settings.

    The Hub shows those whose dataset is a benchmark there; the others are for people.
    """
    found: dict[str, str] = {}
    for one in row.testsets:
        settings = ", ".join(f"{key.replace('_', ' ')}: {value}" for key, value in one.settings.items() if value)
        lines = []
        for metric, values in one.scores.items():
            mean, deviation = mean_and_deviation(values) or (None, None)
            if mean is None:
                continue
            spread = "" if deviation is None else f", mean of {len(values)} runs ± {deviation:.4g}"
            notes = f"{one.size}, {one.clips} clips{spread}" + (f", {settings}" if settings else "")
            lines += [
                "- dataset:",
                f"    id: {json.dumps(one.dataset)}",
                f"    task_id: {metric}",
                f"  value: {mean:.6g}",
                f"  date: {json.dumps(row.scored['date'])}",
                f"  notes: {json.dumps(notes, ensure_ascii=False)}",
            ]
        name = re.sub(r"[^\w.-]+", "_", f"{one.dataset}_{one.size.replace('×', 'x')}")
        found[name] = found.get(name, "") + "".join(f"{line}\n" for line in lines)
    return found


def _written_here(folder: Path) -> bool:
    """Whether it is such a folder. Many others have a `config.json` as well."""
    try:
        return VERSION in json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _check_row(row: ResultRow | None, weights: Weights, source: Location) -> None:
    if row is not None and digest(weights.variables) not in [run.sum for run in row.runs]:
        raise InputError(f"--row is that of other weights ({row.name}): expected one that was scored with {source}")


def _licence(licence: str | None) -> str:
    if licence is None:
        return "Whoever made these weights has not said under which licence they are published."
    return f"These weights are published under `{licence}`, by whoever made them."


def _data(told: Provenance | None) -> str:
    if told is None:
        return "The weights do not tell what they were trained on."
    cells = [["dataset", "version", "licence", "commercial use", "attribution"]]
    cells += [
        [one.dataset, one.version, linked(one.licence, one.link), one.commercial, one.attribution or "–"]
        for one in told.data
    ]
    unfree = ", ".join(told.unfree)
    warning = f"\n\nNot known to be free for commercial use: {unfree}." if unfree else ""
    if told.unfree_allowed and not unfree:
        warning = f"\n\nWhat {told.initial} was trained on is not known, or not free for commercial use."
    head = f"Trained by the recipe `{told.recipe}`, from {told.initial}, on:\n\n"
    return head + markdown(cells) + warning + "\n\n`rvm weights show model.safetensors` prints the same."


def _scores(row: ResultRow | None) -> str:
    if row is None:
        return "Not scored: `rvm evaluate --row row.json` scores weights, `rvm export --row row.json` tells it here."
    by = f"Scored by `rvm evaluate` of rvm-jax {row.scored['rvm-jax']} on {row.scored['date']}. Lower is better."
    return f"{baseline_table.draw_scores([row])}\n\n{by}"


def _use(name: str) -> str:
    return f"""In JAX, `pip install 'rvm-jax[hub]'`:

```python
import rvm_jax

matte = rvm_jax.load("hf://OWNER/{name}")
rvm_jax.matte_video("in.mp4", "out.mp4", weights=matte)
```

In PyTorch, `pip install 'rvm-jax[hub,torch]'`:

```python
import torch
from rvm_jax.export.torch_network import MattingNetwork

network = MattingNetwork.from_pretrained("OWNER/{name}")
rec = [None] * 4
with torch.inference_mode():
    for src in frames:  # [1, 3, H, W] in 0..1
        fgr, pha, *rec = network(src, *rec, downsample_ratio=0.25)
```

`model.onnx` takes the same frames, states and ratio, and needs none of this code."""
