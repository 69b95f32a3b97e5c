"""Frames out: what is read back is what was written, with the times, sound and transparency it had."""

import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from rvm_jax.errors import InputError
from rvm_jax.video import sink, source
from rvm_jax.video.frames import Frame, at_depth
from tests.rvm_jax import videos

NTSC = Fraction(30000, 1001)


def rgb(pixels: np.ndarray) -> np.ndarray:
    return pixels


def copy(read: Path, write: Path, change: Callable[..., np.ndarray] = rgb, channels: int = 3, **options) -> None:
    """Read a video and write it, as it is or changed."""
    with (
        source.open_source(str(read)) as opened,
        sink.open_sink(write, write.suffix, opened, channels, keep_sound=True, **options) as put,
    ):
        for item in opened.items:
            put(item._replace(pixels=change(item.pixels)) if isinstance(item, Frame) else item)


def frames(path: Path) -> np.ndarray:
    """Those of a video, with 8 bits."""
    with source.open_source(str(path)) as opened:
        return np.stack([at_depth(item.pixels, np.uint8) for item in opened.items if isinstance(item, Frame)])


def seconds(path: Path) -> tuple[Fraction, list[Fraction]]:
    """How long a file lasts, and each of its tracks that tells."""
    with av.open(str(path)) as container:
        tracks = [stream.duration * stream.time_base for stream in container.streams if stream.duration]
        return Fraction(container.duration or 0, av.time_base), tracks


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".webm", ".mkv"])
@pytest.mark.parametrize("rate", [Fraction(10), NTSC, Fraction(24000, 1001)], ids=str)
def test_rate_length_and_pictures_are_kept(tmp_path, ending, rate):
    clip = videos.moving(15)
    original = videos.write(tmp_path / "a.mp4", clip, rate=rate)
    copy(original, tmp_path / f"b{ending}")
    with av.open(str(tmp_path / f"b{ending}")) as container:
        assert container.streams.video[0].average_rate == rate
    millisecond = Fraction(1, 1000) if ending in (".webm", ".mkv") else 0  # the finest that it knows
    written = videos.timing(tmp_path / f"b{ending}")
    assert len(written) == 15
    for (time, _), (expected, _) in zip(written, videos.timing(original), strict=True):
        assert abs(time - expected) <= millisecond
    assert abs(seconds(tmp_path / f"b{ending}")[0] - 15 / rate) <= Fraction(1, 1000)
    assert np.abs(frames(tmp_path / f"b{ending}").astype(int) - clip).mean() < 3


@pytest.mark.parametrize("ending", [".mp4", ".mov"])
def test_sound_is_copied_and_nothing_gets_longer(tmp_path, ending):
    original = videos.write(tmp_path / "a.mp4", videos.moving(20), rate=NTSC, sound="aac", seconds_of_sound=0.9)
    copy(original, tmp_path / f"b{ending}")
    assert videos.sound(tmp_path / f"b{ending}") == videos.sound(original)
    for whole, tracks in (seconds(original), seconds(tmp_path / f"b{ending}")):
        assert whole == pytest.approx(0.9, abs=0.001)
        assert tracks == pytest.approx([20 / NTSC, 0.9], abs=0.001)


def test_sound_that_a_file_cannot_hold_is_encoded_again(tmp_path):
    original = videos.write(tmp_path / "a.mp4", videos.moving(25), sound="aac")
    copy(original, tmp_path / "b.webm")
    assert tone(tmp_path / "b.webm") == ("opus", 48000, "stereo")
    copy(tmp_path / "b.webm", tmp_path / "c.mov")
    assert tone(tmp_path / "c.mov") == ("aac", 48000, "stereo")


def tone(path: Path) -> tuple[str, int, str]:
    """Codec, rate and layout of the sound, which is a second of 440 Hz."""
    with av.open(str(path)) as container:
        context: Any = container.streams.audio[0].codec_context
        samples = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], 1)[0]
    assert len(samples) / context.sample_rate == pytest.approx(1, abs=0.06)
    middle = samples[len(samples) // 10 : len(samples) * 9 // 10]
    peak = np.argmax(np.abs(np.fft.rfft(middle))) * context.sample_rate / len(middle)
    assert peak == pytest.approx(440, abs=2)
    return context.codec.canonical_name, context.sample_rate, context.layout.name


@pytest.mark.parametrize(
    ("name", "codec", "rate", "layout", "ending", "expected"),
    [
        ("a.mkv", "pcm_s16le", 48000, "stereo", ".mp4", ("aac", 48000, "stereo")),
        ("a.avi", "pcm_s16le", 22050, "mono", ".mp4", ("aac", 22050, "mono")),
        ("a.mkv", "ac3", 48000, "5.1(side)", ".webm", ("opus", 48000, "5.1")),
        ("a.mkv", "flac", 192000, "stereo", ".mov", ("aac", 48000, "stereo")),
        ("a.mkv", "pcm_s16le", 48000, "4.0", ".mp4", ("aac", 48000, "stereo")),
        ("a.mp4", "mp3", 44100, "stereo", ".mp4", ("mp3", 44100, "stereo")),
    ],
    ids=str,
)
def test_sound_of_any_kind_stays_sound(tmp_path, name, codec, rate, layout, ending, expected):
    original = videos.write(
        tmp_path / name, videos.moving(25), sound=codec, sound_rate=rate, sound_layout=layout
    )  # fmt: skip
    copy(original, tmp_path / f"b{ending}")
    assert tone(tmp_path / f"b{ending}") == expected


def test_a_damaged_packet_of_sound_is_a_moment_of_silence(tmp_path):
    original = videos.write(tmp_path / "a.mp4", videos.moving(25), sound="aac")
    packets = videos.sound(original)
    content = original.read_bytes()
    middle = packets[len(packets) // 2][1]
    assert content.count(middle) == 1
    original.write_bytes(content.replace(middle, b"\xff" * len(middle)))
    copy(original, tmp_path / "b.webm")
    assert tone(tmp_path / "b.webm") == ("opus", 48000, "stereo")


def test_damaged_sound_that_cannot_be_copied_is_told_of_its_source(tmp_path):
    original = videos.write(tmp_path / "a.mkv", videos.moving(25), sound="eac3")
    content = original.read_bytes()
    middle = videos.sound(original)[10][1]
    assert content.count(middle) == 1
    original.write_bytes(content.replace(middle, b"\xff" * len(middle)))
    with pytest.raises(InputError, match=r"^the sound of .*a\.mkv is damaged, and cannot be copied: write \.webm, "):
        copy(original, tmp_path / "b.mp4")
    copy(original, tmp_path / "b.webm")
    assert tone(tmp_path / "b.webm") == ("opus", 48000, "stereo")


@pytest.mark.parametrize("ending", [".mp4", ".mov"])
def test_irregular_times_are_kept(tmp_path, ending):
    times = [0, 100, 500, 600, 700, 1200, 3000, 3100]
    original = videos.write(tmp_path / "a.mp4", videos.moving(8), times=times, time_base=Fraction(1, 1200))
    copy(original, tmp_path / f"b{ending}")
    assert [time * 1200 for time, _ in videos.timing(tmp_path / f"b{ending}")] == times
    # The last frame has no next one that would end it: FFmpeg lets it last as long as one at the mean rate.
    assert seconds(tmp_path / f"b{ending}")[0] == pytest.approx(3100 / 1200 + 1 / 25, abs=0.001)


@pytest.mark.parametrize(("aspect", "square"), [(Fraction(4, 3), (48, 85)), (Fraction(3, 4), (64, 64))], ids=str)
@pytest.mark.parametrize("ending", [".mp4", ".mov", ".webm", ".gif"])
def test_pixels_that_are_not_square_keep_their_shape_or_become_square(tmp_path, ending, aspect, square):
    original = videos.write(tmp_path / "a.mp4", videos.moving(2), aspect=aspect)
    copy(original, tmp_path / f"b{ending}", with_alpha if ending != ".mp4" else rgb, 4 if ending != ".mp4" else 3)
    with av.open(str(tmp_path / f"b{ending}")) as container:
        stream = container.streams.video[0]
        kept = ending in (".mp4", ".mov")
        assert (stream.height, stream.width) == ((48, 64) if kept else square)
        assert (stream.sample_aspect_ratio or 1) == (aspect if kept else 1)


@pytest.mark.parametrize(
    ("height", "width", "aspect", "size"),
    [(96, 200, Fraction(90), "18000×96"), (200, 96, Fraction(1, 90), "96×18000")],
    ids=str,
)
@pytest.mark.parametrize("ending", [".webm", ".gif"])
def test_pixels_that_would_become_too_many_are_refused(tmp_path, ending, height, width, aspect, size):
    original = videos.write(tmp_path / "a.mp4", videos.moving(2, height, width), aspect=aspect)
    with pytest.raises(InputError, match=rf"a.mp4 has {size} pixels if they are made square: .* at most 16384 a side"):
        copy(original, tmp_path / f"b{ending}", with_alpha, 4)
    assert list(tmp_path.iterdir()) == [original]


@pytest.mark.parametrize(("ending", "least"), [(".mp4", (50, 66)), (".mov", (49, 65)), (".webm", (49, 65))])
def test_odd_sides(tmp_path, ending, least):
    clip = videos.moving(3, 49, 65)
    copy(videos.write(tmp_path / "a.mkv", clip, codec="ffv1", pixels="bgr0"), tmp_path / f"b{ending}")
    written = frames(tmp_path / f"b{ending}")
    assert written.shape[1:3] == least
    assert np.abs(written[:, :49, :65].astype(int) - clip).mean() < 3


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".webm"])
@pytest.mark.parametrize("matrix", [1, 6, 9])
def test_colors_stay_what_they_were(tmp_path, ending, matrix):
    patches = np.array([[255] * 3, [0] * 3, [255, 0, 0], [0, 255, 0], [0, 0, 255], [200, 150, 100]], np.uint8)
    picture = np.repeat(np.repeat(patches.reshape(2, 3, 3), 16, 0), 16, 1)
    original = videos.write(tmp_path / "a.mp4", [picture] * 2, colors=(matrix, 1), options={"crf": "1"})
    copy(original, tmp_path / f"b{ending}")
    with av.open(str(tmp_path / f"b{ending}")) as container:
        assert next(container.decode(video=0)).colorspace == matrix
    assert np.abs(frames(tmp_path / f"b{ending}")[0, 8::16, 8::16].astype(int) - patches.reshape(2, 3, 3)).max() <= 5


def test_gray_keeps_its_levels(tmp_path):
    original = videos.write(tmp_path / "a.mp4", videos.moving(3))
    steps = np.repeat(np.linspace(0, 255, 8).astype(np.uint8), 8)[None, :, None].repeat(48, 0)
    for ending in (".mp4", ".mov", ".webm", ".mkv"):
        copy(original, tmp_path / f"b{ending}", lambda pixels: steps, channels=1)
        assert np.abs(frames(tmp_path / f"b{ending}")[0].astype(int) - steps)[:, 4::8].max() <= 3


def with_alpha(pixels: np.ndarray) -> np.ndarray:
    alpha = np.zeros((*pixels.shape[:2], 1), np.uint8)
    alpha[8:40, 8:40], alpha[8:40, 40:56] = 255, 100
    return np.concatenate([pixels, alpha], -1)


def read_with_alpha(path: Path) -> np.ndarray:
    """uint8 [T, H, W, 4]."""
    if path.suffix == "":
        return np.stack([np.asarray(Image.open(picture)) for picture in sorted(path.iterdir())])
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        # FFmpeg's own decoder of VP9 does not look at alpha.
        decoder = av.CodecContext.create("libvpx-vp9", "r") if path.suffix == ".webm" else stream.codec_context
        decoded = [frame for packet in container.demux(stream) for frame in decoder.decode(packet)]
        return np.stack([frame.to_ndarray(format="rgba") for frame in decoded])


@pytest.mark.parametrize(("name", "most"), [("b.mov", 1), ("b.webm", 12), ("b.mkv", 0), ("b", 0)])
def test_alpha_can_be_read_back(tmp_path, name, most):
    clip = videos.moving(5)
    copy(videos.write(tmp_path / "a.mkv", clip, codec="ffv1", pixels="bgr0"), tmp_path / name, with_alpha, channels=4)
    written = read_with_alpha(tmp_path / name)
    expected = np.stack([with_alpha(frame) for frame in clip])
    assert written.shape == expected.shape
    wrong = np.abs(written.astype(int) - expected)
    assert wrong[..., 3].max() <= most
    assert wrong[..., :3][expected[..., 3] > 0].mean() < 3


def test_gif_has_colors_times_and_what_is_transparent(tmp_path):
    clip = videos.moving(5)
    original = videos.write(tmp_path / "a.mkv", clip, rate=10, codec="ffv1", pixels="bgr0")
    copy(original, tmp_path / "b.gif", with_alpha, channels=4)
    with Image.open(tmp_path / "b.gif") as image:
        assert (image.n_frames, image.info["duration"]) == (5, 100)
        shown = np.stack([np.asarray(image.convert("RGBA")) for image.n in range(5) if image.seek(image.n) is None])
    expected = np.stack([with_alpha(frame) for frame in clip])
    opaque = expected[..., 3] >= 128
    assert (shown[..., 3] == np.where(opaque, 255, 0)).all()
    assert np.abs(shown[..., :3].astype(int) - clip)[opaque].mean() < 3
    copy(original, tmp_path / "c.gif")
    assert np.abs(frames(tmp_path / "c.gif").astype(int) - clip).mean() < 3


def test_quality_and_bit_rate_tell(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (30, 48, 64, 3), np.uint8)
    original = videos.write(tmp_path / "a.mkv", noise, codec="ffv1", pixels="bgr0")

    def size(name: str, **options) -> int:
        copy(original, tmp_path / name, **options)
        return (tmp_path / name).stat().st_size

    for ending in (".mp4", ".webm"):
        low, high = size(f"low{ending}", quality="low"), size(f"high{ending}", quality="high")
        assert low < 0.7 * high
        assert size(f"slow{ending}", mbps=0.1) < 0.7 * size(f"fast{ending}", mbps=0.4)


def test_pictures_keep_their_names(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("left", "right"):
        Image.fromarray(videos.moving(1)[0]).save(tmp_path / "in" / f"{name}.png")
    copy(tmp_path / "in", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["left.png", "right.png"]


def test_one_picture_holds_one_frame(tmp_path):
    copy(videos.write(tmp_path / "one.mp4", videos.moving(1)), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (64, 48)
    with pytest.raises(InputError, match=r"has several frames, a .png holds one: give a folder"):
        copy(videos.write(tmp_path / "two.mp4", videos.moving(2)), tmp_path / "b.png")


def test_other_endings_are_refused():
    with pytest.raises(InputError, match=r"a.avi cannot be written: expected an ending of .mp4, .mov, .webm, "):
        sink.check_kind(Path("a.avi"))
    sink.check_kind(Path("A.MP4"))


FULL = """
import sys
from pathlib import Path
from rvm_jax.video import sink, source
from tests.full_disk import fill
fill(20_000)
path = Path(sys.argv[2])
try:
    with source.open_source(sys.argv[1]) as opened:
        with sink.open_sink(path, path.suffix, opened, 3, keep_sound=True) as put:
            for item in opened.items:
                put(item)
except OSError as error:
    print("told:", error.strerror)
"""


@pytest.mark.parametrize("name", ["b.mp4", "b.mov", "b.webm", "b.gif", "b"])
def test_a_full_disk_is_told(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (40, 96, 128, 3), np.uint8)
    original = videos.write(tmp_path / "a.mkv", noise, codec="ffv1", pixels="bgr0")
    command = [sys.executable, "-c", FULL, str(original), str(tmp_path / name)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout == "told: File too large\n"
