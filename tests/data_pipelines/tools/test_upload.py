"""Prepared datasets in a bucket: copied, compared, gone on with, and read from there."""

import shutil
from pathlib import Path

import pytest

from data_pipelines.records import clips
from data_pipelines.tools import check, upload
from rvm_jax.errors import InputError
from rvm_jax.host import buckets
from tests import fake_bucket

bucket = fake_bucket.bucket

DATASET = "synthetic/tiny_matting_clips"
SHARD = "synthetic-train.array_record-00000-of-00001"
OTHER_SHARD = SHARD.replace("train", "validation")
FILES = {"dataset_info.json", "features.json", "licence.json", "metadata.json", SHARD, OTHER_SHARD}


@pytest.fixture
def sent(monkeypatch) -> list[str]:
    """The names of the files that are copied, in order."""
    names: list[str] = []
    send = buckets.upload

    def record(folder, url, wanted, *rest):
        names.extend(wanted)
        send(folder, url, wanted, *rest)

    monkeypatch.setattr(buckets, "upload", record)
    return names


def copy(prepared: Path, url: str, *, overwrite: bool = False) -> str:
    return upload.upload(DATASET, prepared, url, overwrite=overwrite)


def version(url: str) -> str:
    return f"{url}/{DATASET}/1.0.0"


def test_what_is_copied_is_read_as_it_was(prepared, bucket, sent):
    url = f"{bucket}/whole"
    assert copy(prepared, f"{url}/").startswith(f"{DATASET}: copied 6 files, 0.00 GB, to {version(url)}")
    assert set(sent) == FILES
    assert sent[-1] == "dataset_info.json"
    here, there = (clips.open_clips([DATASET], "train", where) for where in (prepared, url))
    assert there.names == here.names
    assert [there.read(number) for number in (23, 0, 8)] == [here.read(number) for number in (23, 0, 8)]
    assert clips.fingerprint(DATASET, url) == clips.fingerprint(DATASET, prepared)
    assert list(clips.verify(DATASET, url)) == []
    sent.clear()
    assert copy(prepared, url) == f"{DATASET} was in {version(url)} already"
    assert sent == []


def test_an_interrupted_copy_is_no_dataset_and_goes_on(prepared, bucket, sent, monkeypatch):
    url = f"{bucket}/interrupted"
    send = buckets.upload

    def fail(folder, target, names, *rest):
        send(folder, target, [SHARD, "features.json"], *rest)
        raise InputError("the network is gone")

    with monkeypatch.context() as broken:
        broken.setattr(buckets, "upload", fail)
        with pytest.raises(InputError, match="the network is gone"):
            copy(prepared, url)
    with pytest.raises(InputError, match=f"is not prepared in {url}: run `rvm data prepare {DATASET} --copy-to {url}`"):
        clips.open_clips([DATASET], "train", url)
    sent.clear()
    copy(prepared, url)
    assert set(sent) == FILES - {SHARD, "features.json"}
    assert clips.open_clips([DATASET], "train", url).frames == 24


def test_what_changed_on_the_way_is_seen(prepared, bucket, monkeypatch):
    url = f"{bucket}/changed"
    send = buckets.upload

    def corrupt(folder, target, names, *rest):
        send(folder, target, names, *rest)
        if SHARD in names:
            content = buckets.read(f"{target}/{SHARD}")
            buckets.write(f"{target}/{SHARD}", b"x" + content[1:])

    monkeypatch.setattr(buckets, "upload", corrupt)
    with pytest.raises(InputError, match=rf"{SHARD} is not what was copied there: give the same command again"):
        copy(prepared, url)
    assert "dataset_info.json" not in buckets.list_files(version(url))


def test_where_the_store_tells_no_checksum_all_is_read_back(prepared, bucket, sent, monkeypatch):
    url = f"{bucket}/untold"
    copy(prepared, url)
    content = buckets.read(f"{version(url)}/{SHARD}")
    buckets.write(f"{version(url)}/{SHARD}", content[:-1] + b"x")
    monkeypatch.setattr(buckets, "_md5", lambda told: None)
    sent.clear()
    copy(prepared, url)
    assert sent == [SHARD, "dataset_info.json"]


def test_another_dataset_is_only_replaced_by_force(prepared, bucket, tmp_path, sent):
    url = f"{bucket}/another"
    other = shutil.copytree(prepared / DATASET, tmp_path / DATASET)
    (other / "1.0.0" / "metadata.json").write_text("{}")
    (other / "1.0.0" / "more.json").write_text("{}")
    copy(tmp_path, url)
    with pytest.raises(InputError, match=f"^{version(url)} holds another dataset, or a damaged one: remove it there"):
        copy(prepared, url)
    copy(prepared, url, overwrite=True)
    assert set(buckets.list_files(version(url))) == FILES


def test_an_older_version_that_is_whole_is_taken(prepared, bucket):
    url = f"{bucket}/versions"
    copy(prepared, url)
    buckets.write(f"{url}/{DATASET}/1.1.0/{SHARD}", b"half")
    assert clips.prepared_folder(DATASET, url) == version(url)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        (SHARD, None, f"is damaged (1 of its files are missing, such as {SHARD}): remove it there, and copy it anew"),
        (SHARD, b"x" * 70_000, "is damaged ("),
        ("dataset_info.json", b"{", "is damaged (Failed to load JSON"),
        ("metadata.json", b"{", "is damaged ("),
        ("features.json", None, "is damaged ("),
    ],
)
def test_damage_is_told_by_the_url(name, content, told, prepared, bucket, request):
    url = f"{bucket}/damaged/{abs(hash(request.node.name))}"
    copy(prepared, url)
    if content is None:
        buckets.remove(version(url), [name])
    else:
        buckets.write(f"{version(url)}/{name}", content)
    with pytest.raises(InputError) as caught:
        clips.open_clips([DATASET], "train", url)
    assert str(caught.value).startswith(f"{version(url)} {told}")
    assert "\n" not in str(caught.value)
    assert "/tmp" not in str(caught.value)


def test_a_bucket_that_cannot_be_reached_does_not_lack_a_dataset(bucket, monkeypatch):
    def unreachable(*_, **__):
        raise OSError("Cannot connect to host storage.googleapis.com:443")

    system, _ = buckets.file_system(bucket)
    monkeypatch.setattr(system, "find", unreachable)
    with pytest.raises(InputError, match=rf"^cannot read {bucket}/data/{DATASET}: Cannot connect to host"):
        clips.open_clips([DATASET], "train", f"{bucket}/data")
    with pytest.raises(InputError, match=r"^cannot read .*: Cannot connect to host"):
        upload.refuse_unreachable([DATASET], f"{bucket}/data")


def test_a_check_tells_what_a_bucket_has(prepared, bucket, tmp_path):
    url = f"{bucket}/checked"
    copy(prepared, url)
    there, missing = check.check([DATASET, "coco_person"], tmp_path, url)
    assert there.state == "prepared"
    assert missing.state == "not ready"
    assert missing.errors == [
        f"it is not in {url}: run `rvm data prepare coco_person --copy-to {url}`, or give another --data-dir"
    ]


def test_a_path_is_no_place_to_copy_to():
    with pytest.raises(InputError, match=r"^--copy-to /mnt/data: expected gs://BUCKET/… or s3://BUCKET/…"):
        upload.refuse_unreachable([DATASET], "/mnt/data")
