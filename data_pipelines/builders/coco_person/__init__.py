"""Pictures of people with masks: COCO 2017, made from TFDS's `coco/2017_panoptic`."""
