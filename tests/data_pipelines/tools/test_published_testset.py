"""Published test sets, in miniature: written as `rvm evaluate` reads them, and never prepared."""

import re
import shutil

import numpy as np
import pytest

from data_pipelines.archives import composites_with_truth
from data_pipelines.records import licences
from rvm_jax.cli.main import main
from rvm_jax.evaluation import layout
from tests.data_pipelines import fake_free_archives as fake
from tests.data_pipelines.building import pixels


def run(*arguments) -> int:
    return main(["data", *map(str, arguments)])


def test_youtubematte(tmp_path, capsys):
    folder = fake.youtubematte(tmp_path, clips=2, frames=3)
    command = ("testset", "youtubematte/512x288", "--manual", tmp_path, "--out", tmp_path / "set")
    assert run(*command) == 0
    clips = layout.find(tmp_path / "set")
    assert [clip.label for clip in clips] == [
        f"youtubematte_{kind}/{number}" for kind in ("motion", "static") for number in ("0000", "0001")
    ]
    assert [len(clip.com) for clip in clips] == [3] * 4
    com = clips[1].com["0002"]
    assert com.read_bytes() == (folder / "youtubematte_motion/0001/har/0002.png").read_bytes()
    np.testing.assert_array_equal(pixels(clips[1].pha["0002"].read_bytes()), fake.person(12)[1])
    assert licences.read(tmp_path / "set").commercial == "no"
    com.unlink()  # what is whole is not written again
    assert run(*command) == 0
    assert not com.exists()
    (tmp_path / "set" / "mine.txt").touch()
    assert run(*command) == 2
    assert f"{tmp_path / 'set'} holds other things, such as mine.txt" in capsys.readouterr().err


def test_another_size_has_clips_of_the_same_names_and_a_folder_of_its_own(tmp_path, capsys):
    small = fake.youtubematte(tmp_path)
    small.rename(small.with_name("youtubematte_1920x1080"))
    fake.youtubematte(tmp_path)
    options = ("--manual", tmp_path, "--out", tmp_path / "set")
    assert run("testset", "youtubematte/512x288", *options) == 0
    assert run("testset", "youtubematte/1920x1080", *options) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path / 'set'} holds youtubematte/512x288, and youtubematte/1920x1080 would be written" in error
    (tmp_path / "set" / "published.txt").unlink()
    assert run("testset", "youtubematte/512x288", *options) == 2
    assert f"{tmp_path / 'set'} holds another test set, and" in capsys.readouterr().err


def test_options_that_belong_to_the_other_kind_are_refused(tmp_path, capsys):
    for words, message in (
        (("youtubematte/512x288", "--clips", 2, "--size", "64x48"), "--size 64x48 and --clips 2: youtubematte/512x288"),
        (("synthetic", "--manual", tmp_path), f"--manual {tmp_path} is for published test sets"),
    ):
        assert run("testset", *words, "--out", tmp_path / "set") == 2
        error = capsys.readouterr().err
        assert error.startswith(f"rvm: {message}")
        assert error.count("\n") == 1
    assert not (tmp_path / "set").exists()


def test_p3m_500(tmp_path):
    folder = fake.p3m(tmp_path)
    assert run("testset", "p3m_500", "--manual", tmp_path, "--out", tmp_path / "set") == 0
    clips = layout.find(tmp_path / "set")
    assert [clip.label for clip in clips] == [
        "p3m_500_np/p_00c8",
        "p3m_500_np/p_00c9",
        "p3m_500_p/p_0064",
        "p3m_500_p/p_0065",
    ]
    portrait = folder / "validation/P3M-500-NP/original_image/p_00c9.jpg"
    assert clips[1].com["0000"].read_bytes() == portrait.read_bytes()


def test_crgnn_real(tmp_path):
    folder = fake.crgnn(tmp_path, clips=2)
    assert run("testset", "crgnn_real", "--manual", tmp_path, "--out", tmp_path / "set") == 0
    clips = layout.find(tmp_path / "set")
    assert [clip.label for clip in clips] == [f"crgnn_real/production ID_{number}" for number in (0, 1)]
    assert [(len(clip.com), clip.numbers, clip.has_gaps) for clip in clips] == [(12, [0, 10], True)] * 2
    frame = folder / "image_allframe/production ID_1/frame00011.png"
    assert clips[1].com["0010"].read_bytes() == frame.read_bytes()
    np.testing.assert_array_equal(pixels(clips[1].pha["0010"].read_bytes()), fake.person(12)[1])
    assert licences.read(tmp_path / "set").commercial == "no"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: shutil.rmtree(folder / "alpha"), "crgnn/alpha has no clips: get the real data by"),
        (
            lambda folder: (folder / "alpha/production ID_0/frame00011.png").rename(
                folder / "alpha/production ID_0/00010.png"
            ),
            "1 alphas have no frame in .*image_allframe/production ID_0: .*00010.png; expected a frame and its alpha",
        ),
        (lambda folder: shutil.rmtree(folder / "image_allframe/production ID_0"), "2 alphas have no frame in .*ID_0"),
        (
            lambda folder: (folder / "image_allframe/production ID_0/frame00002.jpg").touch(),
            "frame00002.jpg and .*frame00002.png are one frame: remove what is not meant",
        ),
        (
            lambda folder: (folder / "alpha/production ID_0/frame00011.png").write_bytes(
                fake.encoded(fake.person(1, 16, 16)[1], "PNG")
            ),
            "alpha/production ID_0/frame00011.png has 16x16 pixels where 48x32 pixels are expected",
        ),
    ],
)
def test_what_differs_from_the_folder_that_is_expected_is_named(tmp_path, capsys, change, message):
    fake.crgnn(tmp_path, clips=2)
    change(tmp_path / "crgnn")
    assert run("testset", "crgnn_real", "--manual", tmp_path, "--out", tmp_path / "set") == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "set" / "crgnn_real" / "production ID_0").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda clip: (clip / "har" / "0001.png").unlink(), "1 files have no partner in .*0000/har: .*pha/0001.png"),
        (lambda clip: (clip / "pha" / "0001.png").write_bytes(b""), "pha/0001.png cannot be read as a picture"),
        (
            lambda clip: (clip / "pha" / "0001.png").write_bytes(fake.encoded(fake.person(1, 16, 16)[1], "PNG")),
            "pha/0001.png has 16x16 pixels where 48x32 pixels are expected",
        ),
        (lambda clip: clip.parent.rename(clip.parent.with_name("else")), "youtubematte_static has no clips: get"),
    ],
)
def test_what_is_wrong_is_named_and_leaves_nothing_that_looks_whole(tmp_path, capsys, change, message):
    change(fake.youtubematte(tmp_path) / "youtubematte_static" / "0000")
    command = ("testset", "youtubematte/512x288", "--manual", tmp_path, "--out", tmp_path / "set")
    assert run(*command) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "set" / "youtubematte_static" / "0000").exists()
    assert not (tmp_path / "set" / "licence.json").exists()


def test_a_test_set_is_not_prepared(tmp_path, capsys):
    assert run("prepare", "p3m_500", "--manual", tmp_path, "--data-dir", tmp_path) == 2
    assert "p3m_500 is a test set, not to be trained on: `rvm data testset p3m_500`" in capsys.readouterr().err


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    for kind in ("com", "pha"):
        (tmp_path / kind).mkdir()
        for number in (1, 2, 10):
            (tmp_path / kind / f"{number}.png").touch()
    frames = composites_with_truth.frames_in(tmp_path / "com", tmp_path / "pha", [])
    assert [tuple(path.stem for path in pair) for pair in frames] == [("1", "1"), ("2", "2"), ("10", "10")]
