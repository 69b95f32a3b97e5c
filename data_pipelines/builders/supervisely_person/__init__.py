"""Pictures of people with masks: Supervisely Person."""
