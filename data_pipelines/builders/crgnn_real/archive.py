"""CRGNN's real videos as their owners ship them: all frames, and the alphas of some.

Known from others: that there are the folders `alpha` and `image_allframe`, with a folder for each clip in both
(evaluation notes of MatAnyone 2), and names such as frame00001.png and frame00011.png (examples in the owners'
repository). Not confirmed, since nobody here has the data: that a frame and its alpha have the same name.
"""

from pathlib import Path

from data_pipelines.archives.clip import Found
from data_pipelines.archives.composites_with_truth import Frames, clip
from data_pipelines.archives.error_messages import first_few
from data_pipelines.archives.stills import by_stem
from rvm_jax.video.picture_files import natural_sort_key

FOLDER = "crgnn"
PAGE = "https://github.com/TiantianWang/VideoMatting-CRGNN"
FRAMES, ALPHAS = "image_allframe", "alpha"


def find(manual: Path, *_: object) -> Found:
    """The clips that have alphas, with all of their frames."""
    found = Found()
    frames, alphas = manual / FOLDER / FRAMES, manual / FOLDER / ALPHAS
    for folder in (frames, alphas):
        if not any(path.is_dir() for path in (folder.iterdir() if folder.is_dir() else ())):
            found.errors.append(
                f"{folder} has no clips: get the real data by {PAGE}, and put its folders {FRAMES} and {ALPHAS} into "
                f"{manual / FOLDER}, each with a folder for every clip"
            )
    if not found.errors:
        clips = {path.name: _frames(frames / path.name, path, found.errors) for path in sorted(alphas.glob("[!.]*/"))}
        found.splits = {"crgnn_real": [clip(name, pairs) for name, pairs in clips.items()]}
    return found


def places(manual: Path, *_: object) -> list[Path]:
    """The folder of both."""
    return [manual / FOLDER]


def _frames(frames: Path, alphas: Path, errors: list[str]) -> Frames:
    """The frames of a clip in the order of their numbers, with their alphas; what is wrong is told in `errors`."""
    pictures, known = by_stem(frames, errors), by_stem(alphas, errors)
    for paths in (*pictures.values(), *known.values()):
        if len(paths) > 1:
            errors.append(f"{paths[0]} and {paths[1]} are one frame: remove what is not meant")
    lonely = [str(known[stem][0]) for stem in sorted(known.keys() - pictures.keys())]
    if lonely:
        errors.append(
            f"{len(lonely)} alphas have no frame in {frames}: {first_few(lonely)}; expected a frame and its alpha to "
            f"have the same name, such as {FRAMES}/CLIP/frame00011.png and {ALPHAS}/CLIP/frame00011.png"
        )
    elif not known:
        errors.append(f"{alphas} has no alphas: get it again")
    pairs = [(paths[0], known.get(stem, [None])[0]) for stem, paths in pictures.items()]
    return sorted(pairs, key=lambda pair: natural_sort_key(pair[0]))
