"""YouTubeVIS 2021 as its owners ship it. Only the training split has public annotations; it is split here."""

import functools
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_pipelines.archives.clip import ArchiveClip, Found, Record, split_clips
from data_pipelines.archives.error_messages import first_few
from data_pipelines.archives.rle import run_lengths, to_mask
from data_pipelines.archives.stills import mask_record
from rvm_jax.errors import InputError
from rvm_jax.host.progress import with_progress

FOLDER = "youtube_vis_2021"
SHORT_SIDE = 720
VALIDATION_EVERY = 50
ASK = "get train.zip of YouTube-VIS 2021 (https://youtube-vos.org/dataset/vis/) and extract it"


class Video(NamedTuple):
    """A video with a person, and the run lengths of every person in every frame."""

    name: str
    pictures: tuple[Path, ...]
    size: tuple[int, int]
    """Height and width."""
    persons: tuple[tuple[NDArray[np.uint32], ...], ...]


def find(manual: Path, *_: object) -> Found:
    """The videos with a person, in the order of their names; the 1st, 51st, 101st and so on are for validation."""
    found = Found()
    folder = manual / FOLDER / "train"
    annotations = folder / "instances.json"
    try:
        videos = _person_videos(annotations, folder / "JPEGImages", found.errors)
    except InputError as error:
        found.errors.append(str(error))
        return found
    clips = [
        ArchiveClip(video.name, (annotations, *video.pictures), functools.partial(encode, video, annotations))
        for video in videos
    ]
    if len(clips) < 2:
        found.errors.append(f"{annotations} names {len(clips)} videos of persons: expected two or more; {ASK} again")
    found.splits = split_clips(clips, VALIDATION_EVERY)
    return found


def places(manual: Path, *_: object) -> list[Path]:
    """The folder of pictures and annotations."""
    return [manual / FOLDER]


def encode(video: Video, annotations: Path) -> Iterator[Record]:
    """A record a frame: the picture, and where any person is."""
    for picture, persons in zip(video.pictures, video.persons, strict=True):
        mask = np.zeros(video.size, bool)
        for runs in persons:
            mask |= to_mask(runs, video.size)
        yield mask_record(picture, mask, source=annotations, short_side=SHORT_SIDE)


def _person_videos(annotations: Path, folder: Path, errors: list[str]) -> list[Video]:
    """The videos, sorted by name; what is wrong with some of them goes to `errors`."""
    videos: list[Video] = []
    missing: list[str] = []
    unusable: list[str] = []
    content = _load(annotations)
    try:
        person = _person_category(content["categories"], annotations)
        tracks: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for annotation in content["annotations"]:
            if annotation["category_id"] == person:
                tracks[annotation["video_id"]].append(annotation)
        for video in with_progress(content["videos"], folder):
            if video["id"] in tracks:
                pictures = tuple(folder / name for name in video["file_names"])
                missing += [str(picture) for picture in pictures if not picture.is_file()]
                size = (video["height"], video["width"])
                persons = _persons(tracks[video["id"]], pictures, size, unusable)
                videos.append(Video(pictures[0].parent.name, pictures, size, persons))
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise InputError(f"{annotations} is not built like YouTubeVIS 2021's ({error!r}): {ASK} again") from error
    if missing:
        errors.append(
            f"{annotations} names {len(missing)} pictures that are missing: {first_few(missing)}; {ASK} again"
        )
    if unusable:
        more = f" (and {len(unusable) - 1} more like this)" if len(unusable) > 1 else ""
        errors.append(f"{annotations} cannot be used: {unusable[0]}{more}; {ASK} again")
    return sorted(videos, key=lambda video: video.name)


def _load(annotations: Path) -> Any:
    try:
        return json.loads(annotations.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{annotations} is not there: {ASK} to {annotations.parent}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{annotations} cannot be read as JSON ({error}): {ASK} again") from error


def _person_category(categories: Sequence[Mapping[str, Any]], annotations: Path) -> int:
    """The number of the category named person: 26, but 1 in the release of 2019, which numbers all others otherwise."""
    numbers = [category["id"] for category in categories if category["name"] == "person"]
    if numbers == [1]:
        raise InputError(f"{annotations} is of YouTubeVIS 2019, where person is category 1: expected 2021; {ASK}")
    if len(numbers) != 1:
        raise InputError(f"{annotations} has {len(numbers)} categories named person: expected one; {ASK} again")
    return int(numbers[0])


def _persons(
    tracks: Sequence[Mapping[str, Any]], pictures: Sequence[Path], size: tuple[int, int], unusable: list[str]
) -> tuple[tuple[NDArray[np.uint32], ...], ...]:
    """The run lengths of every person in every frame; a frame without any has an empty tuple."""
    frames: list[list[NDArray[np.uint32]]] = [[] for _ in pictures]
    for track in tracks:
        masks = track["segmentations"]
        if len(masks) != len(pictures):
            counts = f"{len(masks)} masks for the {len(pictures)} pictures"
            unusable.append(f"annotation {track['id']} has {counts} of {pictures[0].parent}")
            continue
        for frame, picture, mask in zip(frames, pictures, masks, strict=True):
            if mask is None:
                continue
            try:
                if tuple(mask["size"]) != size:
                    raise InputError(f"its size is {mask['size']}, but the video's is {list(size)}")
                frame.append(run_lengths(mask["counts"], size))
            except InputError as error:
                unusable.append(f"the mask of annotation {track['id']} for {picture}: {error}")
    return tuple(tuple(frame) for frame in frames)
