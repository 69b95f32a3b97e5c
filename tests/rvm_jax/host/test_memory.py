"""How much memory there is: of a container no more than it may use."""

import os

import pytest

from rvm_jax.host import memory


@pytest.mark.parametrize(
    ("limits", "usable"), [(["100\n"], 100), (["max\n", "9223372036854771712\n"], None), ([], None)]
)
def test_a_container_has_what_it_may_use(tmp_path, monkeypatch, limits, usable):
    paths = [tmp_path / str(number) for number in range(2)]
    for path, text in zip(paths, limits, strict=False):
        path.write_text(text)
    monkeypatch.setattr(memory, "CONTAINER_LIMITS", paths)
    assert memory.usable_bytes() == (usable or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
