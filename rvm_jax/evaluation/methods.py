"""Methods to evaluate: networks, and folders of what any method has predicted."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rvm_jax.errors import InputError
from rvm_jax.evaluation import layout
from rvm_jax.evaluation.layout import EvaluationClip
from rvm_jax.host.paths import is_url
from rvm_jax.matte import Matte, load_rvm
from rvm_jax.weights.in_buckets import weights_name
from rvm_jax.weights.released import RELEASES


@dataclass(frozen=True)
class Method:
    """Something that mattes: a network, or what a method has left in a folder.

    Attributes:
        name: What tables call it.
        predictions: The folder, in the layout of the test set.
        matte: The network.
        remembers: Whether the network's state goes on from frame to frame, as it should.
    """

    name: str
    predictions: Path | None = None
    matte: Matte | None = None
    remembers: bool = True


def named_method(text: str, clips: Sequence[EvaluationClip], precision: str = "float32") -> Method:
    """The method that `PATH` or `NAME=PATH` names: weights, or a folder of predictions of these clips."""
    name, separator, path = text.partition("=")
    if not separator or is_url(text) or Path(text).expanduser().exists():  # a path may have a = in it
        name, path = "", text
    folder = Path(path).expanduser()
    name = name or weights_name(path if is_url(path) else folder)
    name = re.sub(r"[^\w.+ -]+", "_", name).strip(". ")  # files are called after it
    if not name:
        raise InputError(f"{text} gives a method no name: expected letters or digits, as in NAME=PATH")
    if is_url(path):
        return Method(name, matte=load_rvm(path, precision))
    if layout.holds_predictions(folder, list(clips)):
        return Method(name, predictions=folder)
    if not folder.exists() and path not in RELEASES:
        raise InputError(f"{path} does not exist: give weights, or a folder of predictions, as PATH or NAME=PATH")
    try:
        return Method(name, matte=load_rvm(folder, precision))
    except InputError as error:
        if not folder.is_dir():
            raise
        raise InputError(
            f"{path} holds neither predictions ({clips[0].dataset} is not in it) nor weights ({error})"
        ) from error


def choose_methods(
    texts: Sequence[str], clips: Sequence[EvaluationClip], precision: str = "float32", *, without_memory: bool = False
) -> list[Method]:
    """The methods that these texts name, each with a name of its own, and found fit for these clips.

    With `without_memory` each network comes once more, with a state that is empty for every frame.
    """
    chosen = [named_method(text, clips, precision) for text in texts]
    if without_memory:
        chosen += [
            Method(f"{one.name} without memory", matte=one.matte, remembers=False)
            for one in chosen
            if one.matte is not None
        ]
    alike: dict[str, list[str]] = {}
    for one in chosen:
        alike.setdefault(in_file_names(one.name), []).append(one.name)
    twice = next((names for names in alike.values() if len(names) > 1), None)
    if twice:
        called = " and ".join(dict.fromkeys(twice))
        raise InputError(f"two methods are called {called}: give them other names, as in NAME=PATH")
    for one in chosen:
        check(clips, one)
    return chosen


def in_file_names(name: str) -> str:
    """What a method is called in the names of files."""
    return name.replace(" ", "_")


def check(clips: Sequence[EvaluationClip], one: Method) -> None:
    """Raise `InputError` if a method cannot be scored on a clip, for want of predictions or of pictures to look at."""
    for clip in clips:
        if one.predictions is not None:
            layout.predicted(one.predictions, clip)
        elif not clip.com:
            raise InputError(f"{clip.label} has no com to give to a network: expected pictures in its folder com")
