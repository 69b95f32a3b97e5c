"""Distinctions-646 and Adobe Image Matting as their owners ship them, and the lists of names that choose the people."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

from data_pipelines.archives.clip import ArchiveClip, Found
from data_pipelines.archives.error_messages import first_few
from data_pipelines.archives.folders import matting_records
from data_pipelines.archives.names import read_list
from data_pipelines.archives.stills import by_stem
from rvm_jax.errors import InputError

SHORT_SIDE = 2048
LISTS = {
    "train": "imagematte_train.txt",
    "validation": "imagematte_valid.txt",
    "test_d646": "d646_test.txt",
    "test_aim": "aim_test.txt",
}

# A folder holds foregrounds in one folder and, under the same names, alphas in another.
D646 = ("FG", "GT")
AIM = ("fg", "alpha")
D646_TRAINING = {"Distinctions-646/Train": D646}
D646_TEST = {"Distinctions-646/Test": D646}
AIM_TRAINING = {
    "Combined_Dataset/Training_set/Adobe-licensed images": AIM,
    "Combined_Dataset/Training_set/Other": AIM,
}
AIM_TEST = {
    "Combined_Dataset/Test_set/Adobe-licensed images": AIM,
    "Combined_Dataset/Test_set/Other": AIM,
}

# Where the names of a list are looked for: the next group of folders only if the one before has no such name. The list
# for training holds names such as test_8 beside train_245, so the owners' test halves come last there.
SEARCHED = {
    "train": (D646_TRAINING | AIM_TRAINING, D646_TEST | AIM_TEST),
    "validation": (D646_TRAINING | AIM_TRAINING, D646_TEST | AIM_TEST),
    "test_d646": (D646_TEST,),
    "test_aim": (AIM_TEST,),
}
OWNERS = {
    "Distinctions-646": "ask its authors for Distinctions-646 (https://github.com/yuhaoliu7456/CVPR2020-HAttMatting)",
    "Combined_Dataset": "ask Brian Price at Adobe for Adobe Image Matting (https://sites.google.com/view/deepimagematting)",
}

Listing = Mapping[str, tuple[Mapping[str, Sequence[Path]], Mapping[str, Sequence[Path]]]]
"""The foregrounds and the alphas of every folder, by name without extension: list and files can differ there."""


def find(manual: Path, *_: object) -> Found:
    """The pictures that the four lists name."""
    found = Found()
    names = {split: _read_list(manual / file, found) for split, file in LISTS.items()}
    doubles = [name for name in names["train"] if name in names["validation"]]
    if doubles:
        names["train"] = [name for name in names["train"] if name not in doubles]
        found.warnings.append(
            f"{len(doubles)} names stand in both {LISTS['train']} and {LISTS['validation']} and are kept out of train: "
            + ", ".join(doubles)
        )
    for folder, ask in OWNERS.items():
        if not (manual / folder).is_dir():
            found.errors.append(f"{manual / folder} is not there: {ask}, and extract it to {manual}")
    listing = {
        folder: (by_stem(manual / folder / foregrounds, found.errors), by_stem(manual / folder / alphas, found.errors))
        for folder, (foregrounds, alphas) in (D646_TRAINING | AIM_TRAINING | D646_TEST | AIM_TEST).items()
    }
    splits = {split: _clips(split, names[split], listing, manual, found) for split in LISTS}
    tested = {clip.files for split in ("test_d646", "test_aim") for clip in splits[split]}
    for split in ("train", "validation"):
        leaks = [clip.name for clip in splits[split] if clip.files in tested]
        if leaks:
            splits[split] = [clip for clip in splits[split] if clip.files not in tested]
            found.warnings.append(
                f"{len(leaks)} names of {LISTS[split]} are pictures of a test list and are kept out of {split}: "
                + ", ".join(leaks)
            )
    found.splits = splits
    return found


def places(manual: Path, *_: object) -> list[Path]:
    """The folders of both sets."""
    return [manual / name for name in OWNERS]


def _read_list(path: Path, found: Found) -> list[str]:
    """The names of a list without extension, each once."""
    if not path.exists():
        found.errors.append(f"{path} is not there: copy the list of that name, which the recipe publishes, to it")
        return []
    try:
        stems = [PurePath(name).stem for name in read_list(path)]
    except InputError as error:
        found.errors.append(str(error))
        return []
    if not stems:
        found.errors.append(f"{path} is empty: expected one name of a picture a line")
    return list(dict.fromkeys(stems))


def _clips(split: str, stems: Sequence[str], listing: Listing, manual: Path, found: Found) -> list[ArchiveClip]:
    """The pictures that a list names, in its order."""
    clips: list[ArchiveClip] = []
    missing: list[str] = []
    borrowed: list[str] = []
    lonely: list[str] = []
    for stem in stems:
        groups = [[folder for folder in group if stem in listing[folder][0]] for group in SEARCHED[split]]
        folders = next((group for group in groups if group), [])
        foregrounds = [path for folder in folders for path in listing[folder][0][stem]]
        alphas = [path for folder in folders for path in listing[folder][1].get(stem, ())]
        several = foregrounds if len(foregrounds) > 1 else alphas
        if not foregrounds:
            missing.append(stem)
        elif len(several) > 1:
            either = " or ".join(str(path) for path in several)
            found.errors.append(f"{stem} of {LISTS[split]} could be {either}: remove or rename what is not meant")
        elif not alphas:
            lonely.append(str(foregrounds[0]))
        else:
            pair = (foregrounds[0], alphas[0])
            clips.append(ArchiveClip(stem, pair, functools.partial(matting_records, *pair, short_side=SHORT_SIDE)))
            if not groups[0]:
                borrowed.append(stem)
    roots = {PurePath(folder).parts[0] for group in SEARCHED[split] for folder in group}
    # Where a set is absent, which is an error of its own, nobody can say which names are its.
    if missing and all((manual / root).is_dir() for root in roots):
        found.errors.append(
            f"{len(missing)} names of {LISTS[split]} have no picture in "
            f"{' or '.join(str(manual / root) for root in sorted(roots))}: {first_few(missing)}; extract the sets again"
        )
    if lonely:
        found.errors.append(f"{len(lonely)} foregrounds have no alpha of the same name: {first_few(lonely)}")
    if borrowed:
        found.warnings.append(
            f"{len(borrowed)} names of {LISTS[split]} are only in the owners' test folders and are taken from there: "
            + first_few(borrowed)
        )
    return clips
