"""Provenance: every kind of weight file tells what was trained on, and who reads the file keeps it."""

import hashlib
import struct
import warnings
import zipfile
from dataclasses import replace

import jax
import numpy as np
import pytest
import safetensors.numpy
import torch

import rvm_jax
from rvm_jax.cli.main import main
from rvm_jax.errors import InputError
from rvm_jax.export import formats
from rvm_jax.export.export import export
from rvm_jax.model.network import MattingNetwork
from rvm_jax.model.variants import VARIANTS
from rvm_jax.weights import provenance, released
from rvm_jax.weights.files import Weights, read_weights, write_weights
from rvm_jax.weights.names import digest, to_state_dict
from rvm_jax.weights.provenance import Provenance, TrainingSet
from rvm_jax.weights.released import Release
from tests.rvm_jax.conftest import random_variables

TOLD = Provenance(
    (
        TrainingSet("synthhuman", "1.0.0", "CDLA-Permissive-2.0", "https://example.org/cdla", "yes", ""),
        TrainingSet("drawn", "2.0.0", "own", "", "unknown", "Drawn by Ä. Ö."),
    ),
    "clean",
    "random weights",
    unfree_allowed=True,
)


@pytest.fixture(scope="module")
def weights() -> Weights:
    variables = jax.tree.map(np.asarray, random_variables(MattingNetwork("tiny"), np.float32))
    return Weights(VARIANTS["tiny"], "deep_guided_filter", variables, TOLD)


def test_every_kind_of_weights_hands_it_on(weights, tmp_path):
    given = weights
    for name in ("a.safetensors", "b.pth", "c", "d.pt", "e.safetensors"):
        write_weights(given, tmp_path / name)
        given = read_weights(tmp_path / name)
        assert given.provenance == TOLD == provenance.read(tmp_path / name), name
        jax.tree.map(np.testing.assert_array_equal, given.variables, weights.variables)
    rvm_jax.save(rvm_jax.load(tmp_path / "c"), tmp_path / "f.pth")
    assert provenance.read(tmp_path / "f.pth") == TOLD
    write_weights(replace(weights, provenance=None), tmp_path / "g.pth")
    assert provenance.read(tmp_path / "g.pth") is read_weights(tmp_path / "g.pth").provenance is None


def test_what_is_unknown_is_not_free():
    assert TOLD.unfree == ["drawn"]


def test_equal_weights_give_equal_files(weights, tmp_path):
    for name in ("a.safetensors", "b.safetensors"):
        write_weights(weights, tmp_path / name)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    loaded = safetensors.numpy.load_file(tmp_path / "a.safetensors")
    table = to_state_dict(weights.variables, weights.table)
    assert all(np.array_equal(loaded[name], array) for name, array in table.items())
    with safetensors.safe_open(tmp_path / "a.safetensors", "np") as opened:
        assert opened.metadata() == {"format": "pt", provenance.KEY: TOLD.to_json()}


def test_pytorch_passes_over_the_record(weights, tmp_path):
    write_weights(weights, tmp_path / "with.pth")
    write_weights(replace(weights, provenance=None), tmp_path / "without.pth")
    for options in ({}, {"mmap": True}):
        given, expected = (
            torch.load(tmp_path / name, weights_only=True, **options) for name in ("with.pth", "without.pth")
        )
        assert list(given) == list(expected)
        assert all(torch.equal(given[name], expected[name]) for name in expected)
    with zipfile.ZipFile(tmp_path / "with.pth") as archive:
        assert archive.testzip() is None
        (record,) = (entry for entry in archive.infolist() if entry.filename.endswith(f"/extra/{provenance.FILE}"))
        assert record.date_time == (1980, 1, 1, 0, 0, 0)  # the same whenever it is written


def test_another_record_of_the_name_is_not_it(weights, tmp_path):
    write_weights(replace(weights, provenance=None), tmp_path / "net.pth")
    with zipfile.ZipFile(tmp_path / "net.pth", "a") as archive:
        archive.writestr(f"net/{provenance.FILE}", TOLD.to_json())
    assert provenance.read(tmp_path / "net.pth") is None


def test_tensors_of_a_safetensors_file_begin_at_whole_words(weights, tmp_path):
    """As the format asks: readers map them. The names of recipes have lengths of all kinds."""
    for length in range(8):
        path = tmp_path / f"{length}.safetensors"
        write_weights(replace(weights, provenance=replace(TOLD, recipe="x" * length)), path)
        (header,) = struct.unpack("<Q", path.read_bytes()[:8])
        assert header % 8 == 0


def test_exports_tell_it(weights, tmp_path):
    formats.write_onnx(weights, tmp_path / "net.onnx", None, half=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        formats.write_torchscript(weights, tmp_path / "net.torchscript", None, half=False)
    for name in ("net.onnx", "net.torchscript"):
        assert provenance.read(tmp_path / name) == TOLD


@pytest.mark.slow
def test_a_report_tells_it_for_files_that_cannot(weights, tmp_path):
    write_weights(weights, tmp_path / "net.safetensors")
    export(tmp_path / "net.safetensors", tmp_path / "net.stablehlo", "stablehlo", size=(64, 96))
    assert provenance.read(tmp_path / "net.stablehlo") == TOLD


def test_a_run_tells_it_once_for_all_checkpoints(weights, tmp_path):
    run = tmp_path / "run"
    write_weights(replace(weights, provenance=None), run / "checkpoints" / "100" / "variables")
    provenance.write_to_folder(TOLD, run)
    for path in (run, run / "checkpoints" / "100", run / "checkpoints" / "100" / "variables"):
        assert read_weights(path).provenance == TOLD
    write_weights(replace(weights, provenance=None), run / "checkpoints" / "200")  # with no folder in between
    assert read_weights(run / "checkpoints" / "200").provenance == TOLD
    write_weights(replace(weights, provenance=None), run / "released")  # kept there, trained elsewhere
    assert read_weights(run / "released").provenance is None
    provenance.write_to_folder(TOLD, tmp_path)  # beside other weights, it does not speak of them
    write_weights(replace(weights, provenance=None), tmp_path / "other")
    assert read_weights(tmp_path / "other").provenance is None


def test_what_is_no_provenance_is_named(weights, tmp_path):
    write_weights(weights, tmp_path / "a")
    (tmp_path / "a" / provenance.FILE).write_text('{"data": [{"dataset": "drawn"}]}')
    with pytest.raises(InputError, match=r"a does not say what it was trained on in a form that is known here"):
        read_weights(tmp_path / "a")
    (tmp_path / "a" / provenance.FILE).write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"a does not say what it was trained on in a form that is known here"):
        read_weights(tmp_path / "a")


def test_show_tells_every_dataset_and_its_licence(weights, tmp_path, capsys):
    write_weights(weights, tmp_path / "a.safetensors")
    assert main(["weights", "show", str(tmp_path / "a.safetensors")]) == 0
    shown = capsys.readouterr().out
    assert f"a.safetensors (rvm_tiny, sum {digest(weights.variables)}): trained by" in shown
    for text in ("recipe clean, from random weights", "synthhuman 1.0.0: CDLA-Permissive-2.0, commercial use: yes"):
        assert text in shown
    assert "drawn 2.0.0: own, commercial use: unknown\n" in shown
    assert "allowed on request" in shown
    write_weights(replace(weights, provenance=None), tmp_path / "b")
    assert main(["weights", "show", str(tmp_path / "b")]) == 0
    assert "does not tell what it was trained on" in capsys.readouterr().out
    (tmp_path / "talk.mp4").write_bytes(bytes(100))
    for words in (["show"], ["mobilenetv3", "a"], *(["show", str(tmp_path / name)] for name in ("none", "talk.mp4"))):
        assert main(["weights", *words]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_show_knows_a_release_by_its_bytes(weights, tmp_path, monkeypatch, capsys):
    write_weights(replace(weights, provenance=None), tmp_path / "renamed.safetensors")
    content = (tmp_path / "renamed.safetensors").read_bytes()
    sums = {"theirs": hashlib.sha256(content).hexdigest(), "another": "0" * 64}
    known = {name: Release("", "http://x/y", 1, digest, "MIT", "http://x/licence") for name, digest in sums.items()}
    monkeypatch.setattr(released, "RELEASES", known)
    assert main(["weights", "show", str(tmp_path / "renamed.safetensors")]) == 0
    assert capsys.readouterr().out.endswith(": the released theirs, under MIT by its owner (http://x/licence)\n")
