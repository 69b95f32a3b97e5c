"""Folders for the Hugging Face Hub: read by the Hub's own classes, offline, in JAX and in PyTorch."""

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants  # which the package itself imports when it is asked for it
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import yaml

import rvm_jax
from rvm_jax.cli.main import main
from rvm_jax.errors import InputError
from rvm_jax.evaluation import rows
from rvm_jax.evaluation.rows import ResultRow, RunRecord, SetScores
from rvm_jax.export import export, formats, hub
from rvm_jax.export.torch_network import MattingNetwork
from rvm_jax.weights import provenance
from rvm_jax.weights.files import read_weights, write_weights
from rvm_jax.weights.names import digest
from rvm_jax.weights.provenance import Provenance, TrainingSet
from tests.rvm_jax.conftest import write_tiny

TOLD = Provenance(
    (
        TrainingSet("free", "1.0.0", "CC0-1.0", "https://example.org/free", "yes", ""),
        TrainingSet("academic", "2.0.0", "on request", "https://example.org/academic", "no", "A. Author"),
    ),
    "clean",
    "random weights",
)
NAME = "someone/matting"


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    write_weights(read_weights(write_tiny(folder)), folder / "net.safetensors", provenance=TOLD)
    return folder / "net.safetensors"


@pytest.fixture(scope="module")
def row(weights) -> ResultRow:
    scores = SetScores(
        "drawn_static", "64×48", 2, True, {"precision": "float32"}, {"mad": [6.0, 7.0], "mse": [1.5, 1.5]}
    )
    runs = (RunRecord("other", "0" * 64), RunRecord("net", digest(read_weights(weights).variables)))
    return ResultRow("net", "tiny", runs, None, "clean", None, (scores,), {"date": "2026-11-27", "rvm-jax": "0.1.0"})


@pytest.fixture(scope="module")
def folder(weights, row, tmp_path_factory) -> Path:
    """What the command writes, whose ONNX file was not compared with JAX."""

    def write_onnx(source, target, to, clip):
        formats.write_onnx(read_weights(source), target, None, half=False)
        export.report_path(target).touch()
        return {}

    made = tmp_path_factory.mktemp("hub")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(hub, "export", write_onnx)
        hub.export_to_hub(weights, made / "matting", row=row, licence="apache-2.0")
    return made / "matting"


@pytest.mark.slow
def test_the_command_writes_it_once_its_onnx_file_agrees(folder, weights, row, tmp_path, capsys):
    rows.write(row, tmp_path / "net.json")
    out = tmp_path / "matting"
    words = ["export", str(weights), str(out), "--to", "hub", "--licence", "apache-2.0"]
    assert main([*words, "--row", str(tmp_path / "net.json")]) == 0
    assert "difference from JAX over 5 frames" in capsys.readouterr().out
    for name in ("README.md", "config.json", "model.safetensors", "model.onnx"):
        assert (out / name).read_bytes() == (folder / name).read_bytes()
    assert json.loads((out / "model.onnx.parity.json").read_text())["provenance"]["recipe"] == "clean"


@pytest.fixture
def cached(folder, tmp_path, monkeypatch) -> str:
    """The name of the same folder in the Hub's cache, while nobody can be asked."""
    there = tmp_path / f"models--{NAME.replace('/', '--')}"
    (there / "refs").mkdir(parents=True)
    (there / "refs" / "main").write_text("a" * 40)
    (there / "snapshots").mkdir()
    (there / "snapshots" / ("a" * 40)).symlink_to(folder)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return NAME


def test_the_folder_holds_what_the_hub_knows(folder):
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    files = {"README.md", "config.json", "model.safetensors", "model.onnx", "model.onnx.parity.json"}
    assert names == files | {".eval_results/drawn_static_64x48.yaml"}
    assert provenance.read(folder / "model.safetensors") == provenance.read(folder / "model.onnx") == TOLD


def test_the_card_is_read_by_the_hubs_own_class(folder):
    card = huggingface_hub.ModelCard.load(folder / "README.md")
    assert (card.data.license, card.data.library_name, card.data.pipeline_tag) == (
        "apache-2.0",
        "rvm-jax",
        "image-segmentation",
    )
    assert card.data.datasets == ["free", "academic"]
    assert card.data.metrics == ["mad", "mse"]
    assert "[on request](https://example.org/academic) | no | A. Author" in card.text
    assert "Not known to be free for commercial use: academic." in card.text
    assert "| net | 6.50 ± 0.71 | 1.50 ± 0.00 |" in card.text


def test_a_licence_that_nobody_gave_is_unknown(weights):
    assert 'license: "unknown"' in hub.card("net", read_weights(weights), None, None)


def test_results_are_read_by_the_hubs_own_class(folder):
    (path,) = (folder / ".eval_results").iterdir()
    entries = huggingface_hub.parse_eval_result_entries(yaml.safe_load(path.read_text()))
    found = [(entry.dataset_id, entry.task_id, entry.value, entry.date) for entry in entries]
    assert found == [("drawn_static", "mad", 6.5, "2026-11-27"), ("drawn_static", "mse", 1.5, "2026-11-27")]
    assert "mean of 2 runs ± 0.7071" in entries[0].notes


def test_scores_of_other_settings_are_in_the_same_file(row):
    coarse = replace(row.testsets[0], settings={"downsample_ratio": 0.25}, scores={"mad": [9.0]})
    (text,) = hub.results(replace(row, testsets=(*row.testsets, coarse))).values()
    assert [entry["value"] for entry in yaml.safe_load(text)] == [6.5, 1.5, 9.0]


def test_the_card_tells_of_a_start_that_is_not_known_to_be_free(weights):
    own = replace(TOLD.data[0], link="")
    begun = Provenance((own,), "mobilenetv3", "encoder_start", unfree_allowed=True)
    told = hub.card("net", replace(read_weights(weights), provenance=begun), None, None)
    assert "What encoder_start was trained on is not known, or not free for commercial use." in told
    assert "| free | 1.0.0 | CC0-1.0 | yes | – |" in told
    free = replace(begun, unfree_allowed=False)
    assert "What encoder_start" not in hub.card("net", replace(read_weights(weights), provenance=free), None, None)


def test_show_tells_what_a_folder_of_the_hub_was_trained_on(folder, cached, capsys):
    for name in (str(folder), f"hf://{cached}"):
        assert main(["weights", "show", name]) == 0
        assert "academic 2.0.0: on request, commercial use: no" in capsys.readouterr().out


def test_jax_and_pytorch_load_it_and_matte_alike(folder, cached, weights):
    frame = np.random.default_rng(0).random((48, 64, 3), np.float32)
    expected = rvm_jax.load(weights)(frame)
    for name in (folder, f"hf://{cached}"):
        matte = rvm_jax.load(name)
        assert matte.provenance == TOLD
        np.testing.assert_array_equal(matte(frame).alpha, expected.alpha)
    src = torch.from_numpy(frame.transpose(2, 0, 1)[None])
    for name in (folder, cached, f"hf://{cached}"):
        network = MattingNetwork.from_pretrained(name)
        assert not network.training
        with torch.no_grad():
            fgr, pha, *_ = network(src)
        np.testing.assert_allclose(pha[0, 0], jnp.asarray(expected.alpha)[..., 0], atol=2e-5)
        np.testing.assert_allclose(fgr[0].permute(1, 2, 0), expected.foreground, atol=2e-5)


def test_the_hubs_mixin_makes_the_same_network_of_the_folder(folder):
    class Mixed(MattingNetwork, huggingface_hub.PyTorchModelHubMixin):
        def __init__(self, variant: str = "mobilenetv3", refiner: str = "deep_guided_filter") -> None:
            super().__init__(variant, refiner)

    made = super(MattingNetwork, Mixed).from_pretrained.__func__(Mixed, str(folder), strict=True).state_dict()
    expected = MattingNetwork.from_pretrained(folder).state_dict()
    assert list(made) == list(expected)
    assert all(torch.equal(made[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf://no_owner", "is neither a folder nor a name on the Hugging Face Hub: expected hf://owner/name"),
        ("hf://someone/else", "cannot be fetched from the Hugging Face Hub: "),
    ],
)
def test_what_the_hub_does_not_have_is_named(name, message, cached):
    with pytest.raises(InputError, match=message) as caught:
        rvm_jax.load(name)
    assert "\n" not in str(caught.value)


def test_a_file_or_path_is_not_asked_of_the_hub(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    for name in ("matting/model.safetensors", "./matting2", "../matting2"):
        with pytest.raises(InputError, match=f"^{re.escape(name)} is neither a folder nor a name on the Hugging Face"):
            MattingNetwork.from_pretrained(name)


def test_the_revision_that_is_named_is_asked_for(folder, monkeypatch):
    asked = []

    def fetch(repository, *, revision, allow_patterns):
        asked.append((repository, revision))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    for name in (f"hf://{NAME}@v2", NAME):
        MattingNetwork.from_pretrained(name)
    assert asked == [(NAME, "v2"), (NAME, None)]


def test_a_config_of_a_refiner_that_is_not_known_is_told(folder, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "copied")
    (copied / "config.json").write_text('{"variant": "tiny", "refiner": "magic"}')
    with pytest.raises(InputError, match="tells no variant and refiner that are known here"):
        MattingNetwork.from_pretrained(copied)


@pytest.mark.parametrize("fault", ["damaged", "other network"])
def test_weights_that_are_not_those_of_their_folder_are_told(folder, tmp_path, fault):
    copied = shutil.copytree(folder, tmp_path / "copied")
    if fault == "damaged":
        (copied / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
    else:
        (copied / "config.json").write_text('{"variant": "mobilenetv3", "refiner": "deep_guided_filter"}')
    with pytest.raises(InputError, match=r"is not the network that config\.json tells: get both again"):
        MattingNetwork.from_pretrained(copied)


def test_without_the_hubs_package_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"^hf://a/b needs the Hub's package: pip install 'rvm-jax\[hub\]'$"):
        rvm_jax.load("hf://a/b")


def test_a_folder_of_other_weights_or_things_is_refused(folder, weights, row, tmp_path, capsys):
    other = replace(row, runs=(row.runs[0], RunRecord("another", "1" * 64)))
    rows.write(other, tmp_path / "row.json")
    (tmp_path / "things").mkdir()
    (tmp_path / "things" / "config.json").write_text('{"model_type": "somebody else\'s"}')
    net, out = str(weights), str(tmp_path / "out")
    for words, message in (
        ([net, out, "--to", "hub", "--row", str(tmp_path / "row.json")], "--row is that of other weights (row)"),
        ([net, out, "--to", "hub", "--size", "64x48"], "--size cannot be had with --to hub: leave it out"),
        ([net, out, "--to", "onnx", "--licence", "mit"], "--licence can only be had with --to hub: leave it out"),
        ([net, str(tmp_path / "things"), "--to", "hub", "--force"], f"{tmp_path / 'things'} is a folder that holds"),
        ([net, str(folder), "--to", "hub"], f"{folder} exists already"),
    ):
        assert main(["export", *words]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"rvm: {message}")
        assert error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir() if path.name in ("out", "things")) == ["things"]
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text(json.dumps({"variant": "huge"}))
    (tmp_path / "broken" / "model.safetensors").touch()
    with pytest.raises(InputError, match="tells no variant and refiner that are known here"):
        MattingNetwork.from_pretrained(tmp_path / "broken")
