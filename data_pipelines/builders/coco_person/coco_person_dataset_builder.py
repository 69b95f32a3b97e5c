"""The TFDS builder of COCO's pictures of people with masks."""

import shutil
from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds

from data_pipelines.builders.clip_builder import SEGMENTATION, ClipBuilder
from data_pipelines.builders.coco_person import archive
from rvm_jax.errors import InputError


class Builder(ClipBuilder):
    """The pictures of COCO 2017 with a person; the mask is the union of persons, backpacks and ties.

    The config "free" is of those alone that may be used commercially, by the licence of each.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Put train2017.zip, val2017.zip and panoptic_annotations_trainval2017.zip of COCO 2017 (https://cocodataset.org) into
    the manual folder, as they are. TFDS's coco/2017_panoptic is prepared from them first, in the same data_dir.
    """
    HOMEPAGE = "https://cocodataset.org"
    FEATURES = SEGMENTATION
    CLIPS_PER_SHARD = 128

    def _download_and_prepare(
        self, dl_manager: tfds.download.DownloadManager, download_config: tfds.download.DownloadConfig
    ) -> None:
        manual = self._manual(dl_manager)
        if not archive.panoptic_folder(self._shared_data_dir).is_dir() and not self.find(manual).errors:
            _prepare_panoptic(manual, self._shared_data_dir)
        super()._download_and_prepare(dl_manager, download_config)


def _prepare_panoptic(manual: Path, data_dir: Path) -> None:
    """Let TFDS make `coco/2017_panoptic` from the zip files, and remove what it extracted on the way."""
    extracted = data_dir / "coco" / ".extracted"
    config = tfds.download.DownloadConfig(manual_dir=manual)
    try:
        builder = tfds.builder("coco/2017_panoptic:1.1.0", data_dir=data_dir, file_format="array_record")
        builder.download_and_prepare(download_dir=extracted, download_config=config)
    except tfds.download.download_manager.NonMatchingChecksumError as error:
        raise InputError(
            f"{manual} holds a zip file that is not the one which COCO published: get it again. TFDS says: "
            + " ".join(str(error).split())
        ) from error
    shutil.rmtree(extracted)
