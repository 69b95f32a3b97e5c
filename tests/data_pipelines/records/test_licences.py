"""Licences beside prepared data."""

import json

import pytest

from data_pipelines.builders import catalog
from data_pipelines.builders.licence_table import LICENCES
from data_pipelines.records import licences
from data_pipelines.records.licences import Licence
from data_pipelines.tools import prepare
from rvm_jax.errors import InputError

MINE = Licence("CC0-1.0", "https://example.org/cc0", "yes", "me")


def test_what_is_written_is_read(tmp_path):
    assert licences.read(tmp_path) is None
    assert licences.read(tmp_path / "absent") is None
    licences.write(MINE, tmp_path)
    assert licences.read(tmp_path) == MINE
    assert Licence.from_json(json.loads(json.dumps(MINE.to_json()))) == MINE


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"name": "", "link": "", "commercial": "perhaps", "attribution": ""}']
)
def test_a_file_that_is_none(tmp_path, content):
    (tmp_path / "licence.json").write_text(content)
    with pytest.raises(InputError, match=r"licence.json is not the licence of a dataset \(.*\): "):
        licences.read(tmp_path)


def test_every_dataset_has_one():
    names = [*catalog.DATASETS, *catalog.SYNTHETIC, *catalog.TEST_SETS, "footage/mine", "synthhuman/0-5"]
    found = {name: catalog.licence(name) for name in names}
    assert {kind.partition("/")[0] for kind in LICENCES} == {name.partition("/")[0] for name in names}
    assert {name for name, licence in found.items() if licence.commercial not in ("yes", "no", "unknown")} == set()
    owned = {name: one for name, one in found.items() if not one.name.startswith("your own")}
    assert all(one.link.startswith("https://") and one.attribution for one in owned.values())
    assert {name for name in catalog.DATASETS if found[name].commercial == "yes"} == {
        "synthhuman",
        "pass_backgrounds",
        "p3m_10k",
        "bg_20k",
        "coco_person/free",
    }


def test_prepared_data_carry_theirs_and_older_data_get_it(prepared):
    folder = prepared / "synthetic" / "tiny_background_images" / "1.0.0"
    assert licences.read(folder) == catalog.licence("synthetic/background_images")
    (folder / "licence.json").unlink()
    prepare.prepare("synthetic/tiny_background_images", prepared, prepared)
    assert licences.read(folder) == catalog.licence("synthetic/background_images")
