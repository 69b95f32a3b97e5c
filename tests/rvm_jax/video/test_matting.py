"""A whole video: what is written is what the network says of each frame, whatever the length of the chunks."""

import contextlib
import errno
import http.server
import math
import threading
from fractions import Fraction
from pathlib import Path

import av
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from rvm_jax.errors import InputError
from rvm_jax.matte import Matte
from rvm_jax.model.network import MattingNetwork
from rvm_jax.video import matting, sink, source
from rvm_jax.video.frames import Frame
from rvm_jax.video.matting import VideoResult, matte_video
from tests.rvm_jax import videos

GREEN = np.array([120, 255, 155]) / 255
COUNT = 7


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    return videos.write(folder / "clip.mkv", videos.moving(COUNT, 48, 64), rate=10, codec="ffv1", pixels="bgr0")


@pytest.fixture(scope="module")
def expected(matte) -> tuple[np.ndarray, np.ndarray]:
    """Foreground and alpha of the clip, frame after frame, at half its size: floats [T, H, W, C]."""
    state, results = None, []
    for frame in videos.moving(COUNT, 48, 64):
        foreground, alpha, state = matte(jnp.asarray(frame / np.float32(255)), state, downsample_ratio=0.5)
        results.append((foreground, alpha))
    foregrounds, alphas = (np.stack(each) for each in zip(*results, strict=True))
    assert (np.abs(alphas - 0.5) < 0.45).mean() > 0.2  # alphas between 0 and 1 are there to tell right from wrong
    return foregrounds, alphas


def read(path: Path) -> np.ndarray:
    """uint8 [T, H, W, C]; of pictures with alpha C = 4."""
    if path.is_dir():
        return np.stack([np.asarray(Image.open(picture)) for picture in sorted(path.iterdir())])
    with source.open_source(str(path)) as opened:
        return np.stack([item.pixels for item in opened.items if isinstance(item, Frame)])


@pytest.mark.parametrize("chunk", [1, 3, 7, 10])
def test_frames_are_cut_out_whatever_the_chunk(matte, clip, expected, tmp_path, chunk):
    done = matte_video(clip, tmp_path / "out", weights=matte, downsample_ratio=0.5, chunk=chunk)
    assert done == VideoResult(COUNT, complete=True)
    written = read(tmp_path / "out")
    foreground, alpha = expected
    assert written.shape == (COUNT, 48, 64, 4)
    assert np.abs(written[..., 3:] - alpha * 255).max() <= 0.51
    seen = written[..., 3] > 0
    assert np.abs(written[..., :3] - foreground * 255)[seen].max() <= 0.51


def test_the_tail_needs_no_program_of_its_own(matte, tmp_path):
    clip = videos.write(tmp_path / "clip.mkv", videos.moving(8, 34, 50), codec="ffv1", pixels="bgr0")
    before = matting.matte_chunk._cache_size()
    matte_video(clip, tmp_path / "out", weights=matte, chunk=3)
    assert matting.matte_chunk._cache_size() == before + 1


def test_mp4_has_a_green_background_and_the_same_times(matte, clip, expected, tmp_path):
    matte_video(clip, tmp_path / "out.mp4", weights=matte, downsample_ratio=0.5, chunk=3, quality="high")
    foreground, alpha = expected
    composite = foreground * alpha + GREEN * (1 - alpha)
    assert np.abs(read(tmp_path / "out.mp4") - composite * 255).mean() < 6  # what colours at half size cost
    assert [time for time, _ in videos.timing(tmp_path / "out.mp4")] == [Fraction(n, 10) for n in range(COUNT)]


def test_alpha_and_foreground_beside_it(matte, clip, expected, tmp_path):
    others = {"alpha": tmp_path / "alpha", "foreground": tmp_path / "foreground"}
    matte_video(clip, tmp_path / "out", weights=matte, downsample_ratio=0.5, chunk=3, **others)
    foreground, alpha = expected
    assert np.abs(read(tmp_path / "alpha") - alpha[..., 0] * 255).max() <= 0.51
    assert np.abs(read(tmp_path / "foreground") - foreground * 255).max() <= 0.51
    assert (read(tmp_path / "alpha") == read(tmp_path / "out")[..., 3]).all()


def test_a_picture_a_colour_and_a_video_as_background(matte, clip, expected, tmp_path):
    foreground, alpha = expected
    # Larger and wider than the clip: its middle is taken.
    wide = np.zeros((96, 400, 3), np.uint8)
    wide[:, 120:280] = np.arange(96)[:, None, None] * 2
    Image.fromarray(wide).save(tmp_path / "wide.png")
    middle = np.asarray(Image.fromarray(wide[:, 136:264]).resize((64, 48), Image.Resampling.LANCZOS))
    # Half as many frames a second as the clip, and shorter than it.
    colors = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250]], np.uint8)
    frames = np.broadcast_to(colors[:, None, None], (3, 48, 64, 3))
    videos.write(tmp_path / "colors.mkv", frames, rate=5, codec="ffv1", pixels="bgr0")
    behind = colors[np.arange(COUNT) // 2 % 3][:, None, None]
    for background, shown in (("wide.png", middle), ("#0a141e", [10, 20, 30]), ("colors.mkv", behind)):
        text = background if background.startswith("#") else str(tmp_path / background)
        out = tmp_path / f"on {background}"
        matte_video(clip, out.with_suffix(""), weights=matte, background=text, downsample_ratio=0.5, chunk=3)
        composite = foreground * 255 * alpha + np.asarray(shown) * (1 - alpha)
        assert np.abs(read(out.with_suffix("")) - composite).max() <= 1.01


def test_a_picture_and_a_folder_of_them(matte, expected, tmp_path):
    (tmp_path / "in").mkdir()
    for number, frame in enumerate(videos.moving(COUNT, 48, 64)):
        Image.fromarray(frame).save(tmp_path / "in" / f"{number:02d}.png")
    matte_video(tmp_path / "in", tmp_path / "out", weights=matte, downsample_ratio=0.5, chunk=3)
    _, alpha = expected
    assert np.abs(read(tmp_path / "out")[..., 3:] - alpha * 255).max() <= 0.51
    matte_video(tmp_path / "in" / "00.png", tmp_path / "one.png", weights=matte, downsample_ratio=0.5)
    with Image.open(tmp_path / "one.png") as one:
        assert (np.asarray(one) == read(tmp_path / "out")[0]).all()


def test_progress_tells_frames_and_how_many_to_expect(matte, clip, tmp_path):
    told = []
    options = {"chunk": 3, "downsample_ratio": 0.5, "progress": lambda *numbers: told.append(numbers)}
    matte_video(clip, tmp_path / "out", weights=matte, **options)
    assert told == [(3, 7), (6, 7), (7, 7)]


def test_what_is_stopped_is_written_as_far_as_it_went(matte, clip, tmp_path):
    done = matte_video(clip, tmp_path / "out.mp4", weights=matte, downsample_ratio=0.5, chunk=3, stop=lambda: True)
    assert done == VideoResult(3, complete=False)
    assert len(read(tmp_path / "out.mp4")) == 3


def test_bfloat16_is_near(matte, clip, expected, tmp_path):
    half = Matte(MattingNetwork("tiny", dtype=jnp.bfloat16), matte.variables)
    matte_video(clip, tmp_path / "out", weights=half, downsample_ratio=0.5)
    difference = np.abs(read(tmp_path / "out")[..., 3:] / 255 - expected[1]).mean()
    assert 0 < difference < 0.02


@pytest.mark.parametrize("fault", ["text", "cut", "changing size", "mixed sizes"])
def test_nothing_is_left_of_what_cannot_be_matted(matte, tmp_path, fault):
    from tests.rvm_jax.video.test_source import faults

    (tmp_path / "in").mkdir()
    path, message = faults(tmp_path / "in")[fault]
    for target in ("out/a.mp4", "out/a"):
        with pytest.raises(InputError, match=message):
            matte_video(path, tmp_path / target, weights=matte, chunk=2, alpha=tmp_path / "alpha.mov")
        assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_what_exists_is_kept_unless_forced(matte, clip, tmp_path):
    options = {"weights": matte, "downsample_ratio": 0.5, "chunk": 7}
    (tmp_path / "out.mp4").write_text("precious")
    with pytest.raises(InputError, match=r"out.mp4 exists already: .*--force"):
        matte_video(clip, tmp_path / "out.mp4", **options)
    assert (tmp_path / "out.mp4").read_text() == "precious"
    matte_video(clip, tmp_path / "out.mp4", force=True, **options)
    assert len(read(tmp_path / "out.mp4")) == COUNT
    with pytest.raises(InputError, match=r"holds out.mp4, not only pictures, and is not overwritten"):
        matte_video(clip, tmp_path, force=True, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "out.avi"}, "out.avi cannot be written"),
        ({"alpha": "out.mp4"}, "out.mp4 is to hold several things"),
        ({"background": "greenish"}, "--background greenish is no colour and no file"),
        ({"background": "transparent"}, "out.mp4 cannot be transparent"),
        ({"start": -1}, "--start -1"),
        ({"start": 2, "end": 1}, "--start 2 --end 1: .*an end after the start"),
        ({"start": 5}, "nothing is left by --start"),
        ({"chunk": 0}, "--chunk 0: expected a number above 0"),
        ({"rate": 0}, "--rate 0: expected"),
        ({"resize": (0, None)}, "--resize 0: expected pixels"),
        ({"end": math.inf}, "--start 0 --end inf"),
        ({"target": "out.mp4", "mbps": math.inf}, "--mbps inf: expected a number"),
        ({"downsample_ratio": 2}, "downsample_ratio is 2"),
        ({"downsample_ratio": 0.1}, "leave 4×6"),
        ({"target": "out.mov", "mbps": 5}, "out.mov has no bit rate"),
        ({"weights": "none.pth"}, "none.pth does not exist"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_told_in_one_line(matte, clip, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        matte_video(clip, **{"target": "out.mp4", "weights": matte, **options})
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_the_source_is_not_overwritten(matte, clip):
    before = clip.read_bytes()
    with pytest.raises(InputError, match="is what is to be matted"):
        matte_video(clip, clip.with_suffix(".mkv"), weights=matte, force=True)
    assert clip.read_bytes() == before


def test_nothing_that_is_read_is_overwritten(matte, tmp_path):
    pictures = tmp_path / "pictures"
    matte_video(videos.write(tmp_path / "a.mp4", videos.moving(2)), pictures, weights=matte)
    before = {path: path.read_bytes() for path in pictures.iterdir()}
    first, _ = before
    for name, options, message in (
        (first, {}, "pictures holds what is to be matted"),
        (pictures, {}, "pictures is what is to be matted"),
        (tmp_path / "a.mp4", {"background": str(first)}, "pictures holds what is to be put behind people"),
    ):
        with pytest.raises(InputError, match=message):
            matte_video(name, pictures, weights=matte, force=True, **options)
    assert {path: path.read_bytes() for path in pictures.iterdir()} == before


@pytest.mark.parametrize(("target", "kind"), [("out", "file"), ("out.mp4", "folder")])
def test_a_file_where_a_folder_would_be_written_is_told_first(matte, clip, tmp_path, target, kind):
    (tmp_path / target).mkdir() if kind == "folder" else (tmp_path / target).touch()
    with pytest.raises(InputError, match=f"{target} is a {kind}, and a "):
        matte_video(clip, tmp_path / target, weights=matte, force=True)


def test_sound_comes_along(matte, tmp_path):
    path = videos.write(tmp_path / "a.mp4", videos.moving(20), sound="aac")
    matte_video(path, tmp_path / "b.mp4", weights=matte, alpha=tmp_path / "alpha.mp4", chunk=3)
    assert videos.sound(tmp_path / "b.mp4") == videos.sound(path)
    with av.open(str(tmp_path / "alpha.mp4")) as alpha:
        assert not alpha.streams.audio


def test_what_fails_in_the_end_leaves_all_outputs_as_they_were(matte, clip, tmp_path, monkeypatch):
    opened = sink.open_sink

    @contextlib.contextmanager
    def full(path, *arguments, **options):
        with opened(path, *arguments, **options) as put:
            yield put
        if options["keep_sound"]:  # the main thing, which is closed last
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sink, "open_sink", full)
    (tmp_path / "alpha.mp4").write_text("precious")
    with pytest.raises(InputError, match=r"cannot write .*out.mp4: No space left"):
        matte_video(clip, tmp_path / "out.mp4", weights=matte, alpha=tmp_path / "alpha.mp4", force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["alpha.mp4"]
    assert (tmp_path / "alpha.mp4").read_text() == "precious"


def test_the_home_of_the_user_is_found(matte, clip, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    Image.new("RGB", (8, 8)).save(tmp_path / "office.png")
    matte_video(clip, "~/out.mp4", weights=matte, alpha="~/alpha.mp4", background="~/office.png")
    assert {path.name for path in tmp_path.iterdir()} == {"out.mp4", "alpha.mp4", "office.png"}


def test_the_state_is_given_away_to_the_device(matte):
    """Its memory is used again: donated arrays are gone."""
    state = matte.network.initial_state(1, (48, 64), 0.5, np.float32)
    pixels = jax.device_put(videos.moving(1))
    matting.matte_chunk(matte.network, matte.variables, pixels, state, None, 0.5, ("alpha",))
    assert all(r.is_deleted() for r in state)


class Stalling(http.server.BaseHTTPRequestHandler):
    """Hands out the first part of a file, and no more until it is told to go."""

    content = b""
    go = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content[: len(self.content) * 3 // 4])
        self.go.wait(40)

    def log_message(self, *_: object) -> None:
        pass


def test_a_stream_that_stalls_can_be_left_and_what_came_of_it_is_kept(matte, tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (60, 48, 64, 3), np.uint8)
    monkeypatch.setattr(Stalling, "content", videos.write(tmp_path / "a.mkv", noise).read_bytes())
    monkeypatch.setattr(Stalling, "go", threading.Event())
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stalling)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    progress: list[int] = []
    asked: list[int] = []

    def stop() -> bool:
        """Once nothing has come for half a second."""
        asked.append(len(progress))
        return len(asked) > 6 and asked[-6] == asked[-1]

    try:
        address = f"http://127.0.0.1:{server.server_port}/a.mkv"
        options = {"progress": lambda done, _: progress.append(done), "stop": stop}
        done = matte_video(address, tmp_path / "out.mp4", weights=matte, chunk=1, **options)
        left = [thread for thread in threading.enumerate() if thread.name == "rvm-prefetch"]
    finally:
        Stalling.go.set()
        server.shutdown()
        server.server_close()
    assert 20 < done.frames < 60
    assert not done.complete
    assert len(read(tmp_path / "out.mp4")) == done.frames
    (thread,) = left  # it stalled until all was written
    thread.join(20)
    assert not thread.is_alive()
