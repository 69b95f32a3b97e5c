"""Options that take a path refuse a URL, whatever the command, and nothing is made of it."""

from pathlib import Path

import pytest

from rvm_jax.cli.main import main
from train import loop

REFUSED = {
    "matte, IN": "matte {url}/in.mp4 out.mp4 --weights w.pth",
    "matte, OUT": "matte in.mp4 {url}/out.mp4 --weights w.pth",
    "matte --alpha": "matte in.mp4 out.mp4 --alpha {url}/alpha.mp4 --weights w.pth",
    "matte --foreground": "matte in.mp4 out.mp4 --foreground {url}/fgr.mp4 --weights w.pth",
    "matte --background": "matte in.mp4 out.mp4 --background {url}/office.jpg --weights w.pth",
    "evaluate, TESTSET": "evaluate {url}/testset w.pth",
    "evaluate --out": "evaluate testset w.pth --out {url}/out",
    "export, OUT": "export w.pth {url}/out.onnx --to onnx",
    "export --clip": "export w.pth out.onnx --to onnx --clip {url}/in.mp4",
    "serve --auth": "serve --weights w.pth --auth {url}/people.txt",
    "data check --manual": "data check --manual {url}/archives",
    "data check --folder": "data check footage --folder {url}/shoot",
    "data prepare --manual": "data prepare all --manual {url}/archives",
    "data prepare --folder": "data prepare footage --folder {url}/shoot",
    "data preview --out": "data preview synthetic --out {url}/preview",
    "data testset --out": "data testset synthetic --out {url}/testset",
}


@pytest.mark.parametrize("url", ["gs://bucket", "s3://bucket"])
@pytest.mark.parametrize("command", REFUSED.values(), ids=REFUSED)
def test_a_path_is_no_url(command, url, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(command.format(url=url).split()) == 2
    error = capsys.readouterr().err
    (given,) = (word for word in command.format(url=url).split() if word.startswith(url))
    assert error == (
        f"rvm: {given}: expected a path on this machine, not a URL; mount the bucket, or copy from it and to it\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_streams_are_matted_as_before(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["matte", "http://127.0.0.1:9/live", "out.mp4", "--weights", "w.pth"]) == 2
    assert capsys.readouterr().err.startswith("rvm: w.pth does not exist")


def test_datasets_are_built_on_this_machine(monkeypatch, capsys):
    assert main(["data", "prepare", "synthetic", "--data-dir", "gs://bucket/data"]) == 2
    told = "datasets are built on this machine, so give a path as --data-dir; --copy-to gs://bucket/data copies what"
    assert capsys.readouterr().err.startswith(f"rvm: --data-dir gs://bucket/data: {told}")
    monkeypatch.setenv("TFDS_DATA_DIR", "gs://bucket/data")
    assert main(["data", "prepare", "synthetic"]) == 2
    assert capsys.readouterr().err.startswith(f"rvm: $TFDS_DATA_DIR gs://bucket/data: {told}")


def test_records_are_not_read_from_s3(capsys):
    assert main(["data", "bench", "synthetic", "--data-dir", "s3://bucket/data"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("rvm: --data-dir s3://bucket/data: array_record reads gs:// and paths alone, so mount the ")
    assert error.count("\n") == 1


def test_training_takes_urls_as_they_are(monkeypatch):
    taken = []
    monkeypatch.setattr(loop, "train", lambda recipe, options: taken.append((recipe.init, options.data_dir)))
    assert main(["train", "demo", "--init", "gs://bucket/run", "--data-dir", "gs://bucket/data"]) == 0
    assert main(["train", "demo", "--init=~/w.pth", "--data-dir", "here/"]) == 0
    monkeypatch.setenv("TFDS_DATA_DIR", "gs://bucket/data")
    assert [str(location) for location in taken[0]] == ["gs://bucket/run", "gs://bucket/data"]
    assert taken[1] == (Path.home() / "w.pth", Path("here"))
