"""What is written beside an exported file, and printed: how far it is from the network in JAX."""

import importlib
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from rvm_jax.errors import InputError
from rvm_jax.export import parity
from rvm_jax.weights.provenance import REPORT, Provenance

# How much the root mean square of an output's differences may be. Not the greatest of them: where a frame is flat, the
# fast guided filter divides rounding errors by next to nothing, and in float16 some pixels stand on an edge.
TOLERANCES = {"float32": 1e-4, "float16": 1e-2}


def report_path(path: Path) -> Path:
    return path.with_name(f"{path.name}{REPORT}")


def begin(
    path: Path,
    to: str,
    precision: str,
    network: str,
    clip: str,
    modules: tuple[str, ...],
    provenance: Provenance | None,
) -> dict[str, Any]:
    """A report without its cases. `modules` are the packages that the export needs."""
    versions = {"rvm-jax": version("rvm-jax"), "jax": jax.__version__}
    versions |= {module: _version(module, to) for module in modules}
    return {
        "file": path.name,
        "format": to,
        "precision": precision,
        "network": network,
        "clip": clip,
        "provenance": provenance and asdict(provenance),
        "versions": versions,
        "tolerance": {"root_mean_square": TOLERANCES[precision]},
    }


def table(report: dict[str, Any]) -> str:
    """The differences of a report, for a person: a line for each output, three numbers for each case."""
    cases = report["cases"]
    titles = [f"{case['width']}×{case['height']}" for case in cases]
    titles = [
        f"{title} at {case['downsample_ratio']:.4g}" if "downsample_ratio" in case else title
        for title, case in zip(titles, cases, strict=True)
    ]
    outputs = list(cases[0]["differences"])
    margin = max(3, *map(len, outputs))
    lines = [" " * margin + "".join(f"{title:>27}" for title in titles)]
    for name in outputs:
        numbers = (" ".join(f"{number:.1e}" for number in case["differences"][name].values()) for case in cases)
        lines.append(f"{name:>{margin}}" + "".join(f"{number:>27}" for number in numbers))
    measures = ", ".join(parity.MEASURES).replace("_", " ")
    lines.append(f"difference from JAX over {cases[0]['frames']} frames: {measures}")
    return "\n".join(lines)


def check(report: dict[str, Any]) -> None:
    """Raise if an output of a case differs by more than the tolerance, or is not even a number."""
    tolerance = report["tolerance"]["root_mean_square"]
    for case in report["cases"]:
        for name, difference in case["differences"].items():
            apart = difference["root_mean_square"]
            if apart <= tolerance:  # and not NaN
                continue
            raise InputError(
                f"{report['file']} was not kept: at {case['width']}×{case['height']} its {name} is {apart:.2g} from "
                f"that of JAX (root mean square), which is more than {tolerance:g}, so look for what is odd in the "
                f"weights{', or export float32' if report['precision'] == 'float16' else ''}\n{table(report)}"
            )


def cpu() -> jax.Device | None:
    """Where to compare, since GPUs and TPUs round products by default; or None if JAX was told to leave it out."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None


def _version(module: str, to: str) -> str:
    """The version of a package that is needed to export."""
    try:
        return importlib.import_module(module).__version__
    except ImportError as error:
        raise InputError(f"exporting to {to} needs {module}: pip install 'rvm-jax[torch]'") from error
