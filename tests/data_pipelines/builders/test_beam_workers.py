"""Preparing with Apache Beam: the same bits, by workers of its own."""

import functools
import os
import pickle
import sys
import threading

import pytest

from data_pipelines.archives.clip import ArchiveClip
from data_pipelines.builders import beam_workers, shards
from data_pipelines.builders.clip_builder import FolderConfig
from data_pipelines.builders.shards import Shard
from data_pipelines.records import clips
from data_pipelines.tools import prepare
from rvm_jax.errors import InputError
from tests.data_pipelines import fake_archives, workers

TWO_WORKERS = "direct_num_workers=2,direct_running_mode=multi_processing"


@pytest.fixture
def two_workers(monkeypatch) -> beam_workers.BeamRequest:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))  # they are processes of their own
    request = beam_workers.requested("DirectRunner", TWO_WORKERS)
    assert request is not None
    return request


@pytest.mark.slow
def test_beam_makes_the_very_files_of_a_plain_build(folder, tmp_path, two_workers):
    """Of videos, of folders of pictures and of pictures."""
    manual = tmp_path / "manual"
    fake_archives.video_matte_240k(manual)
    for number in range(60):
        fake_archives.write_picture(manual / "backgrounds" / f"{number}.png", fake_archives.stamped(number))
    mine = FolderConfig(name="mine", folder=folder)
    for name, config in (("video_matte_240k/sd", None), ("footage/mine", mine), ("background_images", None)):
        files, fingerprints = [], []
        for data, beam in ((tmp_path / "plain", None), (tmp_path / "beam", two_workers)):
            prepare.prepare(name, manual, data, config=config, beam=beam)
            paths = sorted(path for path in (data / name).rglob("*") if path.is_file())
            files.append({path.relative_to(data): path.read_bytes() for path in paths})
            fingerprints.append(clips.fingerprint(name, data))
            assert list(clips.verify(name, data)) == []
        assert len(files[0]) > 4
        assert files[0] == files[1]
        assert fingerprints[0] == fingerprints[1]


@pytest.mark.slow
def test_workers_share_the_work_and_tell_of_bad_clips(tmp_path, two_workers):
    (tmp_path / "log").mkdir()
    given = [
        ArchiveClip(str(number), (), functools.partial(workers.encode_and_tell_who, number, log=tmp_path / "log"))
        for number in range(8)
    ]
    given.insert(3, ArchiveClip("bad", (), functools.partial(workers.fail, "video.mp4 is damaged")))
    run = functools.partial(beam_workers.run, runner=two_workers.runner, options=two_workers.options)
    with pytest.raises(InputError, match=r"^video\.mp4 is damaged$"):
        shards.prepare(tmp_path / "shards", {"train": given}, 1, run)
    assert len(list((tmp_path / "shards").glob("*.json"))) == 8
    processes = {path.name for path in (tmp_path / "log").iterdir()}
    assert len(processes) == 2
    assert str(os.getpid()) not in processes


def test_what_beam_does_not_know_is_told_in_one_line(tmp_path):
    with pytest.raises(InputError, match=r"^--beam-options gpus=1,x: Beam does not know --gpus=1, --x; expected name="):
        beam_workers.requested("DirectRunner", "gpus=1,x")
    request = beam_workers.requested("NoRunner", "")
    assert request is not None
    given = [ArchiveClip("a", (), functools.partial(workers.encode, [1]))]
    run = functools.partial(beam_workers.run, runner=request.runner, options=request.options)
    with pytest.raises(InputError, match=r"^Beam's NoRunner could not write the shards: Unexpected pipeline runner.*$"):
        shards.prepare(tmp_path / "shards", {"train": given}, 1, run)


def test_nothing_is_asked_of_beam_without_a_runner_or_without_beam(monkeypatch):
    assert beam_workers.requested(None, "") is None
    with pytest.raises(InputError, match=r"^--beam-options a=b: give --beam-runner too, such as DirectRunner$"):
        beam_workers.requested(None, "a=b")
    monkeypatch.setitem(sys.modules, "apache_beam.options.pipeline_options", None)
    with pytest.raises(
        InputError, match=r"^--beam-runner DirectRunner: .* not installed: pip install 'rvm-jax\[beam\]'$"
    ):
        beam_workers.requested("DirectRunner", "")


def test_shards_are_counted_as_they_turn_up(tmp_path, monkeypatch):
    """Those with errors too; and those of which the folder tells only after the pipeline has ended."""
    monkeypatch.setattr(beam_workers, "SECONDS_BETWEEN_LOOKS", 0.01)
    monkeypatch.setattr(beam_workers, "SECONDS_OF_OLD_NEWS", 0)
    given = [Shard(tmp_path / f"{number}.array_record", ()) for number in range(3)]
    seen: list[Shard] = []
    two = threading.Event()

    def done(shard: Shard) -> None:
        seen.append(shard)
        if len(seen) == 2:
            two.set()

    with beam_workers._watching(given, done):
        shards.write(given[1])
        given[0].fail(["video.mp4 is damaged"])
        assert two.wait(60)
        shards.write(given[2])
    assert sorted(shard.path.name for shard in seen) == [shard.path.name for shard in given]


def test_shards_that_went_elsewhere_are_told_of(tmp_path, monkeypatch):
    monkeypatch.setattr(beam_workers, "SECONDS_OF_OLD_NEWS", 0)

    def run(missing, done):
        with beam_workers._watching(missing, done):
            shards.write(Shard(tmp_path / "elsewhere" / missing[0].path.name, missing[0].clips))

    given = [ArchiveClip("a", (), functools.partial(workers.encode, [1]))]
    folder = tmp_path / "shards"
    with pytest.raises(InputError, match=rf"^1 of 1 shards did not come to {folder}: all workers must write there$"):
        shards.prepare(folder, {"train": given}, 1, run)


def test_a_second_try_of_a_worker_does_nothing(tmp_path):
    """Beam may run an element more than once, or on two workers."""
    log = tmp_path / "log"
    given = [ArchiveClip("a", (), functools.partial(workers.encode, [1], log=log))]
    shard = Shard(tmp_path / "a.array_record", given)
    for _ in range(2):
        beam_workers._write(pickle.dumps(shard))
    assert log.read_text().split() == ["1"]
