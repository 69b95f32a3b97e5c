"""YouTubeMatte: a test set of people on other backgrounds, harmonised."""
