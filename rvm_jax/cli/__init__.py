"""The `rvm` command, one file for each of its commands; the only room that imports `train` and `data_pipelines`."""
