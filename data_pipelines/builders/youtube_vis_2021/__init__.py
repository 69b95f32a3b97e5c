"""Videos of people with masks: the person videos of YouTubeVIS 2021."""
