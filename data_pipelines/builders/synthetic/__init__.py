"""People-like clips made from a seed: matting, backgrounds and segmentation, with nothing to download."""

ROLES = (
    "matting_clips",
    "matting_images",
    "background_clips",
    "background_images",
    "segmentation_clips",
    "segmentation_images",
)
