"""Weights in buckets: what is fetched of them, what comes back, and what is said of those that cannot be read."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

import rvm_jax
from rvm_jax.cli.main import main
from rvm_jax.errors import InputError
from rvm_jax.host import buckets
from rvm_jax.weights.files import Weights, read_weights, write_weights
from rvm_jax.weights.in_buckets import weights_name
from rvm_jax.weights.provenance import Provenance
from tests import fake_bucket
from tests.rvm_jax.conftest import write_tiny

bucket = fake_bucket.bucket


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def weights(folder) -> Weights:
    return read_weights(folder)


@pytest.fixture
def fetched(monkeypatch) -> list[str]:
    """The names of all files of folders that were fetched."""
    names: list[str] = []
    download = buckets.download

    def record(url, folder, wanted):
        names.extend(wanted)
        download(url, folder, wanted)

    monkeypatch.setattr(buckets, "download", record)
    return names


def put(folder: Path, url: str, *, without: str | None = None) -> None:
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    buckets.upload(folder, url, [name for name in names if name != without])


def put_run(folder: Path, url: str, iterations: dict[int, bool], best: int | None = None) -> None:
    """A run with checkpoints, each of which is whole or not. Their first weights are their iterations."""
    buckets.write(f"{url}/recipe.json", b"{}")
    buckets.write(f"{url}/wandb/huge.wandb", b"huge")
    for number, whole in iterations.items():
        checkpoint = f"{url}/checkpoints/{number}"
        put(folder, f"{checkpoint}/variables")
        buckets.write(f"{checkpoint}/moments/d/huge", b"huge")
        if whole:
            buckets.write(f"{checkpoint}/commit_success.txt", b"")
    if best is not None:
        results = {str(best): {"stage": 0, "mad": 1.0}}
        buckets.write(f"{url}/checkpoints/validation.json", json.dumps(results).encode())


def assert_same(one: Weights, other: Weights) -> None:
    jax.tree.map(np.testing.assert_array_equal, one.variables, other.variables)


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "a", "deep/er/a/"])
def test_what_is_written_to_a_bucket_is_read_from_it(name, weights, bucket):
    url = f"{bucket}/there/{name}"
    write_weights(weights, url)
    assert_same(read_weights(url), weights)
    with pytest.raises(InputError, match=rf"^{url} exists already: choose another name, or overwrite it with --force$"):
        write_weights(weights, url)
    write_weights(weights, url, overwrite=True)
    assert_same(read_weights(url), weights)


def test_a_matte_is_loaded_from_a_bucket_and_saved_to_it(folder, bucket):
    put(folder, f"{bucket}/matte")
    matte = rvm_jax.load(f"{bucket}/matte")
    rvm_jax.save(matte, f"{bucket}/saved.safetensors")
    with pytest.raises(InputError, match="exists already: choose another name, or replace it with overwrite=True"):
        rvm_jax.save(matte, f"{bucket}/saved.safetensors")


def test_a_folder_of_weights_is_replaced_and_its_last_file_comes_last(weights, bucket, monkeypatch):
    url = f"{bucket}/replaced"
    write_weights(weights, url)
    buckets.write(f"{url}/d/of_before", b"")
    seen = []
    upload = buckets.upload

    def record(folder, url, names, *rest):
        seen.append((set(names), "commit_success.txt" in buckets.list_files(url)))
        upload(folder, url, names, *rest)

    monkeypatch.setattr(buckets, "upload", record)
    write_weights(weights, url, overwrite=True)
    (others, marked_then), (last, marked_at_last) = seen
    assert "commit_success.txt" not in others
    assert last == {"commit_success.txt"}
    assert not marked_then
    assert not marked_at_last
    assert "d/of_before" not in buckets.list_files(url)


def test_other_folders_are_not_overwritten(weights, bucket):
    buckets.write(f"{bucket}/other/thesis.tex", b"")
    with pytest.raises(InputError, match=f"^{bucket}/other is a folder that holds other things than weights"):
        write_weights(weights, f"{bucket}/other", overwrite=True)


def test_of_a_run_no_more_is_fetched_than_the_network_that_it_ended_with(folder, weights, bucket, fetched):
    put_run(folder, f"{bucket}/ended", {8: True})
    put(folder, f"{bucket}/ended/weights")
    buckets.write(f"{bucket}/ended/weights/commit_success.txt", b"")
    assert_same(read_weights(f"{bucket}/ended"), weights)
    assert {name.split("/")[0] for name in fetched} == {"weights"}


@pytest.mark.parametrize(
    ("iterations", "best", "taken"),
    [({8: True, 10: True}, 8, "8"), ({8: True, 10: True}, None, "10"), ({8: True, 10: False}, None, "8")],
    ids=["the best", "the newest", "the newest that is whole"],
)
def test_a_run_that_goes_on_gives_a_checkpoint(iterations, best, taken, folder, weights, bucket, fetched):
    url = f"{bucket}/runs/{len(iterations)}-{best}-{taken}"
    told = Provenance((), "published", "random weights")
    buckets.write(f"{url}/provenance.json", told.to_json().encode())
    put_run(folder, url, iterations, best)
    put(folder, f"{url}/weights")  # without its last file
    buckets.remove(url, ["weights/commit_success.txt"])
    read_again = read_weights(url)
    assert_same(read_again, weights)
    assert read_again.provenance == told
    read = {name for name in fetched if not name.endswith(("validation.json", "provenance.json"))}
    assert {name.rpartition("/variables/")[0] for name in read} == {f"checkpoints/{taken}"}


def test_a_checkpoint_is_read_by_itself(folder, weights, bucket, fetched):
    put_run(folder, f"{bucket}/single", {8: True, 10: False})
    told = Provenance((), "published", "random weights")
    buckets.write(f"{bucket}/single/provenance.json", told.to_json().encode())
    read_again = read_weights(f"{bucket}/single/checkpoints/8")
    assert_same(read_again, weights)
    assert read_again.provenance == told  # its run's
    assert {name.split("/")[0] for name in fetched} == {"variables"}
    with pytest.raises(InputError, match=f"^{bucket}/single/checkpoints/10 is a checkpoint that was not saved to its"):
        read_weights(f"{bucket}/single/checkpoints/10")


def damaged(folder: Path, bucket: str) -> None:
    buckets.write(f"{bucket}/bad/a.pth", b"nonsense")
    buckets.write(f"{bucket}/bad/a.safetensors", b"nonsense")
    put(folder, f"{bucket}/bad/folder", without="manifest.ocdbt")
    put_run(folder, f"{bucket}/bad/new", {})
    put_run(folder, f"{bucket}/bad/half", {2: False})
    buckets.remove(f"{bucket}/bad", ["folder/ocdbt.process_0/manifest.ocdbt"])


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a.pth", "is not a PyTorch checkpoint, or it is damaged"),
        ("a.safetensors", "is not a safetensors file, or it is damaged"),
        ("folder", "is not a folder of saved weights, or it is damaged"),
        ("", "is not a folder of saved weights: give a .pth"),
        ("none.pth", "does not exist: give a .pth or .safetensors file, a saved folder, or that of a training run"),
        ("new", "is a training run that has saved no checkpoint yet: let it train for longer"),
        ("half", "is a training run that has saved no checkpoint to its end, with commit_success.txt in it"),
    ],
)
def test_what_cannot_be_read_is_told_by_its_url(name, told, folder, bucket, tmp_path, capsys):
    damaged(folder, bucket)
    url = f"{bucket}/bad/{name}".rstrip("/")
    assert main(["convert", url, str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"rvm: {url} {told}")
    assert error.count("\n") == 1
    assert "/tmp" not in error


def test_what_cannot_be_reached_is_not_called_missing(bucket, monkeypatch):
    with pytest.raises(InputError, match=r"^cannot read gs://elsewhere/a\.pth: there is no bucket or file"):
        read_weights("gs://elsewhere/a.pth")

    def unreachable(*_, **__):
        raise OSError("Cannot connect to host storage.googleapis.com:443")

    system, _ = buckets.file_system(bucket)
    monkeypatch.setattr(system, "find", unreachable)
    with pytest.raises(InputError, match=f"^cannot read {bucket}/a: Cannot connect to host storage.googleapis.com:443"):
        read_weights(f"{bucket}/a")


@pytest.mark.parametrize(
    ("location", "name"),
    [
        ("gs://b/run/weights.pth", "weights"),
        ("gs://b/runs/lr0.1", "lr0.1"),
        ("gs://b/runs/lr0.1/", "lr0.1"),
        ("s3://b/A.SafeTensors", "A"),
        ("gs://mine/modnet.ckpt", "modnet"),
    ],
)
def test_weights_are_called_what_their_urls_end_in(location, name):
    assert weights_name(location) == name


def test_weights_are_called_what_their_paths_end_in(tmp_path, monkeypatch):
    (tmp_path / "lr0.1").mkdir()
    (tmp_path / "lr0.2").touch()
    monkeypatch.chdir(tmp_path / "lr0.1")
    assert [weights_name(path) for path in (tmp_path / "lr0.1", tmp_path / "lr0.2", ".")] == ["lr0.1", "lr0", "lr0.1"]
