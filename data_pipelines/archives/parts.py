"""Shares of datasets that come as many archives: which of them a config such as 0-5 means."""

import re
from collections.abc import Mapping

from rvm_jax.errors import InputError

COUNTS: Mapping[str, int] = {"synthhuman": 60, "pass_backgrounds": 10}
"""In how many archives these datasets come, some of which are a dataset too."""


def chosen(dataset: str, config: str) -> range:
    """The numbers of the archives of a dataset of `COUNTS`: of all if `config` is empty, or those of "3" or "0-5"."""
    count = COUNTS[dataset]
    if not config:
        return range(count)
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", config)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (count, count)
    if not first <= last < count:
        raise InputError(
            f"there is no dataset {dataset}/{config}: a share of {dataset} is named by its parts, of 0 to {count - 1}, "
            f"such as {dataset}/0-{min(5, count - 1)}"
        )
    return range(first, last + 1)
