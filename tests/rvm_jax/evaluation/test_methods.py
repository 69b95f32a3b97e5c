"""Methods by name: networks and folders of predictions."""

import pytest

from rvm_jax.errors import InputError
from rvm_jax.evaluation import layout, methods
from rvm_jax.evaluation.methods import Method


def test_methods_are_told_apart(network, testset, tmp_path):
    clips = layout.find(testset)
    assert methods.named_method(network, clips).matte is not None
    assert methods.named_method(f"theirs={testset}", clips) == Method("theirs", predictions=testset)
    assert methods.named_method(str(testset), clips).name == "set"
    odd = tmp_path / "lr=1"
    odd.symlink_to(testset)
    assert methods.named_method(str(odd), clips) == Method("lr_1", predictions=odd)
    with pytest.raises(InputError, match="nowhere does not exist"):
        methods.named_method("a=nowhere", clips)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds neither predictions"):
        methods.named_method(str(tmp_path / "empty"), clips)


def test_methods_are_called_what_their_folders_are(network, testset, tmp_path, monkeypatch):
    clips = layout.find(testset)
    folders = [tmp_path / name for name in ("lr0.1", "lr0.2")]
    for folder in folders:
        folder.symlink_to(testset)
    assert [one.name for one in methods.choose_methods(list(map(str, folders)), clips)] == ["lr0.1", "lr0.2"]
    monkeypatch.chdir(testset)
    assert methods.named_method(".", clips).name == "set"
    (testset / "deep").mkdir()
    monkeypatch.chdir(testset / "deep")
    assert methods.named_method("..", clips).name == "set"
    assert methods.named_method(f"..a={testset}", clips).name == "a"
    for text in (f"..={testset}", f" ={testset}"):
        with pytest.raises(InputError, match=r"gives a method no name: expected letters or digits, as in NAME=PATH"):
            methods.named_method(text, clips)
