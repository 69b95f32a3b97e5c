"""Prepared datasets by name, put together for the pipelines."""

from collections.abc import Sequence
from typing import Literal

from data_pipelines.pipelines.matting import MattingData
from data_pipelines.records.clips import EMPTY, Clips, concatenate, features, open_clips
from rvm_jax.errors import InputError
from rvm_jax.host.paths import Location

DatasetKind = Literal["matting", "background", "segmentation"]
KINDS: dict[frozenset[str], DatasetKind] = {
    frozenset({"foreground", "alpha"}): "matting",
    frozenset({"image"}): "background",
    frozenset({"image", "mask"}): "segmentation",
}


def kind(dataset: str, data_dir: Location) -> DatasetKind:
    """What a prepared dataset is for, told from its pictures."""
    found = KINDS.get(features(dataset, data_dir))
    if found is None:
        raise InputError(f"{dataset} in {data_dir} was not made by `rvm data prepare`: its pictures have other names")
    return found


def open_matting(foregrounds: Sequence[str], backgrounds: Sequence[str], split: str, data_dir: Location) -> MattingData:
    """Matting datasets on background datasets. One in which every clip has a single frame is taken for images.

    If a background dataset has no split of this name, its split `test` or `train` takes its place.
    """
    opened = [open_clips([name], split, data_dir, otherwise=("test", "train")) for name in backgrounds]
    stills = [clips for clips in opened if clips.lengths.max() == 1]
    moving = [clips for clips in opened if clips.lengths.max() > 1]
    return MattingData(open_clips(foregrounds, split, data_dir), _joined(stills), _joined(moving))


def open_named(names: Sequence[str], split: str, data_dir: Location) -> MattingData | Clips:
    """Matting datasets with backgrounds, or segmentation datasets."""
    if not names:
        raise InputError("no dataset was named: give a matting dataset with backgrounds, or segmentation datasets")
    if all(kind(name, data_dir) == "segmentation" for name in names):
        return open_clips(names, split, data_dir)
    return open_matting(*sorted_out(names, data_dir), split, data_dir)


def sorted_out(names: Sequence[str], data_dir: Location) -> tuple[list[str], list[str]]:
    """Which of these are matting datasets, and which backgrounds; `synthetic` stands for both of its kind."""
    if tuple(names) == ("synthetic",):
        names = ("synthetic/matting_clips", "synthetic/background_images", "synthetic/background_clips")
    of_kind: dict[DatasetKind, list[str]] = {"matting": [], "background": [], "segmentation": []}
    for name in names:
        of_kind[kind(name, data_dir)].append(name)
    if of_kind["segmentation"]:
        raise InputError("segmentation datasets are not composited: leave out the others, or these")
    examples: dict[DatasetKind, str] = {"matting": "video_matte_240k/sd", "background": "dvm_backgrounds"}
    for needed, example in examples.items():
        if not of_kind[needed]:
            raise InputError(f"there is no {needed} dataset among {', '.join(names)}: add one, such as {example}")
    return of_kind["matting"], of_kind["background"]


def matting_only(data: MattingData | Clips) -> MattingData:
    """The data if it is for matting."""
    if not isinstance(data, MattingData):
        raise InputError("these are segmentation datasets: give a matting dataset with backgrounds")
    return data


def _joined(parts: Sequence[Clips]) -> Clips:
    return concatenate(parts) if parts else EMPTY
