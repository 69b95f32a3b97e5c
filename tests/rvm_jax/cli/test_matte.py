"""`rvm matte` as a person runs it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest

from rvm_jax.cli import matte
from rvm_jax.cli.main import main
from rvm_jax.errors import InputError
from rvm_jax.video.streaming import preview
from tests.compiling import QUICKLY
from tests.rvm_jax import videos
from tests.rvm_jax.conftest import write_tiny


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> str:
    return str(write_tiny(tmp_path_factory.mktemp("weights")))


@pytest.fixture
def clips(tmp_path) -> list[str]:
    """Two videos of the same size."""
    return [str(videos.write(tmp_path / f"{name}.mp4", videos.moving(5))) for name in ("first", "second")]


def count(path: Path) -> int:
    return len(videos.timing(path))


def test_one_video(network, clips, tmp_path, capsys):
    assert main(["matte", clips[0], str(tmp_path / "out.mp4"), "--weights", network]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/out.mp4: 5 frames\n"
    assert count(tmp_path / "out.mp4") == 5


def test_a_preview_shows_what_is_written(network, clips, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(preview, "open_preview", lambda: contextlib.nullcontext(shown.append))
    command = ["matte", *clips, f"{tmp_path}/{{name}}.mkv", "--weights", network, "--chunk", "1", "--preview"]
    assert main(command) == 0
    assert [made["cut_out"].shape for made in shown] == [(1, videos.HEIGHT, videos.WIDTH, 4)] * 10


def test_several_videos(network, clips, tmp_path):
    outputs = [f"{tmp_path}/mattes/{{name}}.mov", "--alpha", f"{tmp_path}/alphas/{{name}}.mp4"]
    assert main(["matte", *clips, *outputs, "--weights", network]) == 0
    for name in ("mattes/first.mov", "mattes/second.mov", "alphas/first.mp4", "alphas/second.mp4"):
        assert count(tmp_path / name) == 5


def test_one_that_fails_does_not_stop_the_others(network, clips, tmp_path, capsys):
    Path(clips[0]).write_text("no video")
    assert main(["matte", *clips, f"{tmp_path}/out/{{name}}.mp4", "--weights", network]) == 2
    told = capsys.readouterr()
    assert told.out == f"{tmp_path}/out/second.mp4: 5 frames\n"
    lines = told.err.splitlines()
    assert lines[0].startswith("rvm: computing on the CPU (")
    assert lines[1].startswith(f"rvm: {clips[0]} cannot be read as a video")
    assert lines[2] == "rvm: 1 of 2 could not be matted: see above"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["second.mp4"]


def test_one_that_fails_as_none_should_does_not_stop_the_others(network, clips, tmp_path, monkeypatch, capsys):
    from rvm_jax.video import matting

    matte_video = matting.matte_video

    def fail(name, **options):
        if name == clips[0]:
            raise ZeroDivisionError("once\nor twice")
        return matte_video(name, **options)

    monkeypatch.setattr(matting, "matte_video", fail)
    assert main(["matte", str(tmp_path), f"{tmp_path}/out/{{name}}.mp4", "--weights", network]) == 2
    told = capsys.readouterr()
    assert told.out == f"{tmp_path}/out/second.mp4: 5 frames\n"
    assert told.err.splitlines()[1:] == [
        f"rvm: {clips[0]}: ZeroDivisionError: once or twice",
        "rvm: 1 of 2 could not be matted: see above",
    ]


def test_nothing_is_begun_when_an_output_exists(network, clips, tmp_path, capsys):
    out, alpha = tmp_path / "out.mov", tmp_path / "alpha.mp4"
    alpha.write_text("mine")
    assert main(["matte", clips[0], str(out), "--alpha", str(alpha), "--weights", network]) == 2
    assert "alpha.mp4 exists already" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alpha.mp4", "first.mp4", "second.mp4"]


def test_an_empty_folder_is_written_to(network, clips, tmp_path):
    (tmp_path / "out").mkdir()
    assert main(["matte", clips[0], str(tmp_path / "out"), "--weights", network]) == 0
    assert len(list((tmp_path / "out").iterdir())) == 5
    assert main(["matte", clips[0], str(tmp_path / "out"), "--weights", network]) == 2


def test_several_go_on_where_they_were(network, clips, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["matte", *clips, f"{out}/{{name}}.mp4", "--weights", network]
    out.mkdir()
    (out / "first.mp4").write_text("whole")
    told = f"rvm: {out}/first.mp4 is there already: {clips[0]} is left out (--force mattes it)"
    assert main(command) == 0
    printed = capsys.readouterr()
    assert printed.err.splitlines()[0] == told
    assert printed.out == f"{out}/second.mp4: 5 frames\n"
    assert (out / "first.mp4").read_text() == "whole"
    assert main(command) == 0  # nothing is left
    assert capsys.readouterr().err.splitlines() == [told, told.replace("first", "second")]
    assert main([*command, "--force"]) == 0
    assert count(out / "first.mp4") == 5


def test_what_is_left_out_has_all_that_is_wanted(network, clips, tmp_path, capsys):
    (tmp_path / "first.mov").write_text("whole")
    wanted = [f"{tmp_path}/{{name}}.mov", "--alpha", f"{tmp_path}/{{name}}_alpha.mp4"]
    assert main(["matte", *clips, *wanted, "--weights", network]) == 2
    assert "first.mov exists already" in capsys.readouterr().err


def test_one_of_several_that_was_stopped_is_not_taken_for_whole(network, clips, tmp_path, monkeypatch, capsys):
    from rvm_jax.video import matting

    matte_video = matting.matte_video

    def stopped_after_one(name, **options):
        stop = options["stop"]
        options["stop"] = lambda: os.kill(os.getpid(), signal.SIGINT) or stop()
        return matte_video(name, **options)

    command = ["matte", *clips, f"{tmp_path}/out/{{name}}.mp4", "--weights", network]
    with monkeypatch.context() as changed:
        changed.setattr(matting, "matte_video", stopped_after_one)
        assert main(command) == 130
    kept = tmp_path / "out" / "first.unfinished.mp4"
    assert capsys.readouterr().err.splitlines()[-1] == f"rvm: stopped: {kept} holds the first 1 frame of {clips[0]}"
    assert [path.name for path in (tmp_path / "out").iterdir()] == [kept.name]
    assert count(kept) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["in.mp4"], "rvm: given in.mp4: expected what to matte and what to write, as in: rvm matte in.mp4 out.mp4\n"),
        (["a.mp4", "b.mp4", "out.mp4"], "rvm: out.mp4 is to hold 2 results: write {name} in it"),
        (["a/x.mp4", "b/x.mp4", "{name}.mp4"], "rvm: two inputs are called x"),
        (["in.mp4", "out.mp4", "--start", "soon"], "rvm: --start soon: expected seconds, MM:SS or HH:MM:SS"),
        (["in.mp4", "out.mp4", "--resize", "large"], "rvm: --resize large: expected a size such as 1280x720"),
        (["in.mp4", "out.mp4", "--rate", "1/0"], "rvm: --rate 1/0: expected frames a second"),
        (["in.mp4", "out.mp4", "--rate", "25"], "rvm: --rate is for folders of pictures, and in.mp4 is none"),
        (["in.mp4", "{nam}.mp4"], "rvm: {nam}.mp4: {nam} is unknown: only {name} is filled in"),
        (["in.mp4", "out.mp4", "--end", "0"], "rvm: --start 0 --end 0: expected seconds from the start, and an end"),
        (["in.mp4", "out.mp4", "--background", "grin"], "rvm: --background grin is no colour and no file"),
        (["in.mp4", "out.mov", "--mbps", "3"], "rvm: --mbps is given, but out.mov has no bit rate"),
        (["in.mp4", "/proc/none/out.mp4"], "rvm: in.mp4 does not exist"),
    ],
    ids=str,
)
def test_what_the_user_has_to_mend_is_one_line_and_status_2(network, arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["matte", *arguments, "--weights", network]) == 2
    lines = capsys.readouterr().err.splitlines(keepends=True)
    (error,) = (line for line in lines if not line.startswith("rvm: computing on"))
    assert error.startswith(message)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_told(network, clips, capsys):
    assert main(["matte", clips[0], "/proc/none/out.mp4", "--weights", network]) == 2
    assert capsys.readouterr().err.endswith("\nrvm: cannot write /proc/none/out.mp4: No such file or directory\n")


@pytest.mark.parametrize(("text", "expected"), [("90", 90), ("1.5", 1.5), ("1:30", 90), ("1:00:00.25", 3600.25)])
def test_times(text, expected):
    assert matte._seconds("--start", text) == expected


@pytest.mark.parametrize("text", ["", "a", "1:2:3:4", "1:"])
def test_what_is_no_time(text):
    with pytest.raises(InputError, match="--end"):
        matte._seconds("--end", text)


def run(*arguments: str, before: str = "pass") -> "subprocess.Popen[str]":
    """The command in a process of its own, which does something before."""
    program = f"import sys; {before}; from rvm_jax.cli.main import main; sys.exit(main(sys.argv[1:]))"
    environment = {**os.environ, "XLA_FLAGS": QUICKLY}
    return subprocess.Popen(
        [sys.executable, "-c", program, "matte", *arguments],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
    )  # fmt: skip


@pytest.mark.slow
def test_ctrl_c_closes_the_file(network, tmp_path):
    long = videos.write(tmp_path / "long.mp4", np.tile(videos.moving(50), (40, 1, 1, 1)))
    out = tmp_path / "out.mov"
    with run(str(long), str(out), "--weights", network, "--chunk", "1") as process:
        # It writes beside the name, and has begun to once that file has grown.
        while not any(path.stat().st_size > 1000 for path in tmp_path.glob(".rvm-*/new")) and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate()
    assert process.returncode == 130
    done = count(out)
    assert 1 <= done < 2000
    assert error.splitlines()[-1] == f"rvm: stopped: {out} holds the first {done} frames of {long}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["long.mp4", "out.mov"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["out.mp4", "out"])
def test_a_full_disk_leaves_nothing(network, tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (40, 96, 128, 3), np.uint8)
    clip = videos.write(tmp_path / "clip.mkv", noise, codec="ffv1", pixels="bgr0")
    full = "from tests.full_disk import fill; fill(10_000)"
    options = ["--weights", network, "--background", str(clip), "--chunk", "2"]
    with run(str(clip), str(tmp_path / name), *options, before=full) as process:
        _, error = process.communicate()
    assert process.returncode == 2
    assert error.splitlines()[-1] == f"rvm: cannot write {tmp_path / name}: File too large"
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mkv"]


def test_what_is_wrong_is_told_before_jax_is_imported(clips, tmp_path):
    """Which takes seconds."""
    clip, other = clips
    wrong = {
        "none.pth": [clip, "--weights", "none.pth"],
        "none.mp4": ["none.mp4", "--weights", "x"],
        "webcam": ["webcam:97", "--weights", "x"],
        "--chunk": [clip, "--weights", "x", "--chunk", "0"],
        "none.png": [clip, "--weights", "x", "--plate", "none.png"],
        "--device": [clip, "--weights", "x", "--device", "abacus"],
        other: [clip, "--weights", "x", "--alpha", other],
    }
    program = (
        "import sys\nfrom rvm_jax.cli.main import main\n"
        f"for words in {[*wrong.values()]!r}: assert main(['matte', words[0], 'out.mp4', *words[1:]]) == 2\n"
        "print('jax' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"
    assert [line.split(":")[1].split()[0] for line in result.stderr.splitlines()] == [*wrong]


def test_help_loads_nothing_heavy():
    program = (
        "import sys, contextlib, rvm_jax.cli.main\n"
        "with contextlib.suppress(SystemExit): rvm_jax.cli.main.main(['matte', '--help'])\n"
        "print([m for m in ('jax', 'flax', 'torch', 'tensorflow', 'av', 'PIL') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_matting_needs_neither_torch_nor_tensorflow(network, clips, tmp_path):
    program = (
        "import sys, rvm_jax\n"
        f"rvm_jax.matte_video({clips[0]!r}, {str(tmp_path / 'out.mp4')!r}, weights={network!r})\n"
        "print([m for m in ('torch', 'tensorflow', 'cv2', 'wandb', 'optax') if m in sys.modules])"
    )
    environment = {**os.environ, "XLA_FLAGS": QUICKLY}
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert result.stdout.splitlines()[-1] == "[]", result.stderr
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].frames == 5
