"""Decoding: the right frames, and no unsound file passes."""

import io
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageOps

from data_pipelines.archives import decode
from rvm_jax.errors import InputError
from tests.data_pipelines import fake_archives

FRAMES = 37


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("videos")
    return {
        codec: fake_archives.write_video(folder / f"{codec}.mp4", map(fake_archives.stamped, range(FRAMES)), codec)
        for codec in fake_archives.CODECS
    }


@pytest.mark.parametrize("codec", fake_archives.CODECS)
@pytest.mark.parametrize("reader", ["decord", "pyav"])
def test_every_frame_comes_in_order(videos, codec, reader, monkeypatch):
    if reader == "decord":
        pytest.importorskip("decord")
    else:
        monkeypatch.setattr(decode, "DECORD_BUDGET", 0)
    header = decode._header(videos[codec])
    assert decode._suits_decord(videos[codec], header) == (reader == "decord" and codec != "h264")
    frames = list(decode.read_video(videos[codec]))
    assert [fake_archives.number_in(frame) for frame in frames] == list(range(FRAMES))
    lower_half = np.s_[fake_archives.HEIGHT // 2 + 8 :]
    for number, frame in enumerate(frames):
        assert frame.dtype == np.uint8
        error = np.abs(frame[lower_half].astype(int) - fake_archives.stamped(number)[lower_half])
        assert error.mean() < 6
    assert decode.video_length(videos[codec]) == FRAMES


@pytest.mark.parametrize("codec", ["hevc", "hevc_open_gop", "vp9"])
def test_decord_and_pyav_agree(videos, codec):
    pytest.importorskip("decord")
    header = decode._header(videos[codec])
    both = zip(
        decode._read_with_decord(videos[codec], header), decode._read_with_pyav(videos[codec], header), strict=True
    )
    for decord, pyav in both:
        np.testing.assert_array_equal(decord, pyav)


@pytest.mark.parametrize("number", [0, 9, 18, 27, 36])
def test_pyav_takes_over_where_one_of_five_frames_differs(videos, number, monkeypatch, capsys):
    """By a single bit; a frame that is none of the five is not looked at."""
    decord = pytest.importorskip("decord")

    class Reader(decord.VideoReader):
        """Gives one wrong pixel."""

        def next(self):
            self.count = getattr(self, "count", -1) + 1
            frame = super().next().asnumpy()
            frame[50, 60, 1] ^= self.count == wrong
            return decord.nd.array(frame)

    video = videos["hevc_open_gop"]
    expected = list(decode._read_with_pyav(video, decode._header(video)))
    monkeypatch.setattr(decord, "VideoReader", Reader)
    wrong = number
    np.testing.assert_array_equal(list(decode.read_video(video)), expected)
    assert capsys.readouterr().err == f"warning: {video} is decoded with PyAV: decord gives other frames\n"
    wrong = number + 1 if number < 36 else 35
    assert (np.asarray(list(decode.read_video(video))) != expected).sum() == 1
    assert capsys.readouterr().err == ""


def test_pyav_takes_over_where_decord_fails(videos, monkeypatch, capsys):
    decord = pytest.importorskip("decord")

    class Reader(decord.VideoReader):
        def next(self):
            raise decord.DECORDError("no idea")

    monkeypatch.setattr(decord, "VideoReader", Reader)
    assert [fake_archives.number_in(frame) for frame in decode.read_video(videos["vp9"])] == list(range(FRAMES))
    assert capsys.readouterr().err == f"warning: {videos['vp9']} is decoded with PyAV: decord cannot read it\n"


@pytest.mark.parametrize("codec", fake_archives.CODECS)
def test_frames_that_are_sought_are_those_of_reading_in_order(videos, codec):
    in_order = list(decode._read_with_pyav(videos[codec], decode._header(videos[codec])))
    np.testing.assert_array_equal(decode._frames_at(videos[codec], range(FRAMES)), in_order)


def test_decord_reads_neither_large_nor_deep_videos(videos, tmp_path, monkeypatch):
    pytest.importorskip("decord")
    deep = fake_archives.write_video(
        tmp_path / "deep.mp4", map(fake_archives.stamped, range(FRAMES)), "hevc", pixels="yuv420p10le"
    )
    assert not decode._suits_decord(deep, decode._header(deep))
    assert [fake_archives.number_in(frame) for frame in decode.read_video(deep)] == list(range(FRAMES))
    monkeypatch.setattr(decode, "DECORD_BUDGET", FRAMES * fake_archives.HEIGHT * fake_archives.WIDTH * 3 - 1)
    assert not decode._suits_decord(videos["hevc"], decode._header(videos["hevc"]))


@pytest.mark.parametrize("codec", ["h264", "hevc_open_gop"])
def test_a_cut_video_gives_the_frames_that_it_still_has(videos, codec, tmp_path):
    cut = fake_archives.cut_video(videos[codec], tmp_path / "cut.mp4")
    numbers = [fake_archives.number_in(frame) for frame in decode.read_video(cut)]
    assert numbers == list(range(numbers[0], FRAMES))
    if codec == "hevc_open_gop":  # its first pictures need some from before the cut; decord would fill up the number
        assert len(numbers) < decode.video_length(cut)


def test_videos_without_a_number_of_frames_in_the_header(tmp_path):
    path = fake_archives.write_video(tmp_path / "video.mkv", map(fake_archives.stamped, range(FRAMES)))
    assert decode._header(path).frames == 0
    assert decode.video_length(path) == FRAMES
    assert [fake_archives.number_in(frame) for frame in decode.read_video(path)] == list(range(FRAMES))


@pytest.mark.parametrize("codec", fake_archives.CODECS)
def test_a_video_that_was_cut_short_is_refused(videos, codec, tmp_path):
    whole = videos[codec].read_bytes()
    path = tmp_path / "short.mp4"
    path.write_bytes(whole[: len(whole) * 3 // 4])
    with pytest.raises(InputError, match=rf"short\.mp4 is damaged or cut short: \d+ of the {FRAMES} frames"):
        list(decode.read_video(path))


@pytest.mark.parametrize("codec", fake_archives.CODECS)
def test_a_video_that_ends_after_a_whole_frame_is_refused(videos, codec, tmp_path):
    """No decoder sees anything wrong with it."""
    with av.open(str(videos[codec])) as container:
        ends = sorted(packet.pos + packet.size for packet in container.demux(video=0) if packet.size)
    path = tmp_path / "short.mp4"
    path.write_bytes(videos[codec].read_bytes()[: ends[24]])
    with pytest.raises(InputError, match=rf"short\.mp4 is damaged or cut short: \d+ of the {FRAMES} frames"):
        list(decode.read_video(path))


def test_damage_in_the_middle_is_refused(videos, tmp_path):
    """Three wrong bytes, which decoders paint over if they are not asked to tell."""
    damaged = bytearray(videos["h264"].read_bytes())
    at = damaged.index(b"mdat") + (len(damaged) - damaged.index(b"mdat")) * 3 // 4
    damaged[at : at + 3] = bytes(byte ^ 0x5A for byte in damaged[at : at + 3])
    path = tmp_path / "damaged.mp4"
    path.write_bytes(damaged)
    with pytest.raises(InputError, match=r"damaged\.mp4 is damaged or cut short: \d+ of the 37 frames"):
        list(decode.read_video(path))


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize(
    ("matrix", "turned"),
    [
        ((1, 0, 0, 1), lambda frame: frame),
        ((0, 1, -1, 0), lambda frame: np.rot90(frame, -1)),  # what a phone writes that was held upright
        ((-1, 0, 0, -1), lambda frame: np.rot90(frame, 2)),
        ((0, -1, 1, 0), lambda frame: np.rot90(frame)),
        ((-1, 0, 0, 1), np.fliplr),
        ((1, 0, 0, -1), np.flipud),
        ((0, 1, 1, 0), lambda frame: frame.swapaxes(0, 1)),
        ((0, -1, -1, 0), lambda frame: np.rot90(frame.swapaxes(0, 1), 2)),
    ],
)
def test_videos_are_turned_upright(videos, tmp_path, codec, matrix, turned):
    """Both the codec that decord would read and one for PyAV."""
    path = tmp_path / "turned.mp4"
    path.write_bytes(videos[codec].read_bytes())
    fake_archives.turn_video(path, *matrix)
    for frame, stored in zip(decode.read_video(path), decode.read_video(videos[codec]), strict=True):
        np.testing.assert_array_equal(frame, turned(stored))
        assert frame.flags.c_contiguous


def test_a_video_to_be_shown_at_an_angle_is_refused(videos, tmp_path):
    path = tmp_path / "turned.mp4"
    path.write_bytes(videos["hevc"].read_bytes())
    fake_archives.turn_video(path, 1, 1, -1, 1)
    with pytest.raises(InputError, match=r"turned\.mp4 is to be shown at an angle: encode it again"):
        next(decode.read_video(path))


def test_files_that_are_no_videos_are_refused(tmp_path):
    for name, content, reason in (
        ("empty.mp4", b"", "it is empty"),
        ("text.mp4", b"to do: film this\n" * 50, "Invalid"),
    ):
        (tmp_path / name).write_bytes(content)
        for read in (decode.video_length, lambda path: list(decode.read_video(path))):
            with pytest.raises(InputError, match=rf"{name} cannot be read as a video: {reason}"):
                read(tmp_path / name)
    with pytest.raises(InputError, match=r"missing\.mp4 cannot be read as a video: No such file"):
        decode.video_length(tmp_path / "missing.mp4")
    fake_archives.write_sound(tmp_path / "sound.mp4")
    with pytest.raises(InputError, match=r"sound\.mp4 holds no video"):
        decode.video_length(tmp_path / "sound.mp4")


def save(path: Path, pixels: np.ndarray, mode: str | None = None, **options: object) -> Path:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


COLOUR = fake_archives.stamped(5)
GRAY = fake_archives.stamped_alpha(5)


def deep_rgb(path: Path) -> Path:
    """RGB of 16 bits, which Pillow reads as if it had 8 and cannot write."""
    import zlib

    rows = b"".join(b"\0" + row.tobytes() for row in COLOUR.astype(">u2") * 257)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    height, width = GRAY.shape
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([16, 2, 0, 0, 0])
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pictures")
    files = {
        "rgb": save(folder / "rgb.png", COLOUR),
        "jpeg": save(folder / "jpeg.jpg", COLOUR, quality=90),
        "gray": save(folder / "gray.png", GRAY),
        "gray_jpeg": save(folder / "gray_jpeg.jpg", GRAY),
        "gray_as_rgb": save(folder / "gray_as_rgb.png", GRAY, "RGB"),
        "bit": save(folder / "bit.png", GRAY, "1"),
        "rgba": save(folder / "rgba.png", COLOUR, "RGBA"),
        "la": save(folder / "la.png", GRAY, "LA"),
        "palette": save(folder / "palette.png", COLOUR, "P"),
        "key": save(folder / "key.png", COLOUR, transparency=(0, 0, 0)),
        "cmyk": save(folder / "cmyk.jpg", COLOUR, "CMYK"),
        "deep_gray": save(folder / "deep_gray.png", GRAY.astype(np.uint16) * 257),
        "deep": deep_rgb(folder / "deep.png"),
        "text": folder / "text.png",
        "empty": folder / "empty.png",
    }
    files["text"].write_text("not a picture")
    files["empty"].write_bytes(b"")
    for name in ("jpeg", "rgb"):
        short = files[name].with_stem(f"{name}_short")
        short.write_bytes(files[name].read_bytes()[:-400])
        files[f"{name}_short"] = short
    return files


UNSOUND = {
    "deep_gray": "has 16 bits",
    "deep": "has 16 bits",
    "text": "cannot be read as a picture",
    "empty": "cannot be read as a picture",
    "jpeg_short": "cannot be read as a picture, or it is damaged: image file is truncated",
    "rgb_short": "cannot be read as a picture, or it is damaged",
}


@pytest.mark.parametrize(
    ("read", "refused"),
    [
        (
            decode.read_foreground,
            {
                "gray": "is gray: a foreground must be RGB of 8 bits",
                "gray_jpeg": "is gray",
                "bit": "is black and white",
                "rgba": "with an alpha channel: a foreground must be",
                "la": "with an alpha channel",
                "key": "with an alpha channel",
                "palette": "with a palette",
                "cmyk": "of mode CMYK",
            },
        ),
        (
            decode.read_alpha,
            {
                "rgb": "is in colour: an alpha must be gray",
                "jpeg": "is in colour",
                "rgba": "with an alpha channel: an alpha must be",
                "la": "with an alpha channel",
                "key": "with an alpha channel",
                "palette": "with a palette",
                "cmyk": "of mode CMYK",
            },
        ),
        (decode.read_picture, {}),
    ],
)
def test_pictures_are_taken_or_refused(pictures, read, refused):
    refused = refused | UNSOUND
    mode = "L" if read is decode.read_alpha else "RGB"
    for name, path in pictures.items():
        if name in refused:
            with pytest.raises(InputError, match=rf"{path.name}.*{refused[name]}") as caught:
                read(path)
            assert "\n" not in str(caught.value)
            assert str(path) in str(caught.value)
        else:
            image = read(path)
            assert (image.mode, image.size) == (mode, (fake_archives.WIDTH, fake_archives.HEIGHT)), name


def test_pixels_are_kept(pictures):
    np.testing.assert_array_equal(np.asarray(decode.read_foreground(pictures["rgb"])), COLOUR)
    for name in ("gray", "gray_as_rgb"):
        np.testing.assert_array_equal(np.asarray(decode.read_alpha(pictures[name])), GRAY)
    assert set(np.unique(np.asarray(decode.read_alpha(pictures["bit"])))) == {0, 255}
    np.testing.assert_array_equal(np.asarray(decode.read_picture(pictures["rgba"])), COLOUR)
    np.testing.assert_array_equal(np.asarray(decode.read_picture(pictures["gray"])), np.stack([GRAY] * 3, 2))


@pytest.mark.parametrize("tag", range(10))
def test_pictures_are_turned_upright(tmp_path, tag):
    """As Pillow itself does; 0 and 9 mean nothing."""
    color = fake_archives.tag_picture(save(tmp_path / "colour.jpg", COLOUR), tag)
    gray = fake_archives.tag_picture(save(tmp_path / "gray.png", GRAY), tag)
    gray_as_rgb = fake_archives.tag_picture(save(tmp_path / "as_rgb.png", GRAY, "RGB"), tag)
    for read, path in (
        (decode.read_foreground, color),
        (decode.read_picture, color),
        (decode.read_alpha, gray),
        (decode.read_alpha, gray_as_rgb),
    ):
        image = read(path)
        with Image.open(path) as stored:
            expected = ImageOps.exif_transpose(stored).convert(image.mode)
            lying = stored.convert(image.mode)
        np.testing.assert_array_equal(np.asarray(image), np.asarray(expected))
        assert image.size == ((96, 128) if 5 <= tag <= 8 else (128, 96))
        if read is not decode.read_foreground:
            np.testing.assert_array_equal(np.asarray(read(path, upright=False)), np.asarray(lying))
    assert decode.jpeg_bytes(color) == (None if 2 <= tag <= 8 else color.read_bytes())
    assert decode.jpeg_bytes(color, upright=False) == color.read_bytes()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0nonsense", b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12"])
def test_damaged_tags_do_not_matter(tmp_path, exif):
    path = save(
        tmp_path / "tagged.jpg", COLOUR, exif=exif, dpi=(72, 72)
    )  # without, Pillow looks when it opens the file
    assert decode.read_foreground(path).size == (fake_archives.WIDTH, fake_archives.HEIGHT)
    assert decode.jpeg_bytes(path) == path.read_bytes()


def test_pictures_may_be_large_but_not_too_large(pictures, monkeypatch):
    """Without the warning that Pillow prints from half of its limit on, an error here."""
    count = fake_archives.WIDTH * fake_archives.HEIGHT
    for most in (count - 1, count // 2 - 1):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
        assert decode.read_foreground(pictures["jpeg"]).size == (fake_archives.WIDTH, fake_archives.HEIGHT)
        assert decode.jpeg_bytes(pictures["jpeg"]) is not None
        assert most == Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr("rvm_jax.video.picture_files.MOST_PIXELS", count)
    decode.read_foreground(pictures["jpeg"])
    monkeypatch.setattr("rvm_jax.video.picture_files.MOST_PIXELS", count - 1)
    for read, name in ((decode.read_foreground, "jpeg"), (decode.read_alpha, "gray"), (decode.read_picture, "rgb")):
        with pytest.raises(InputError, match=rf"{pictures[name].name} is too large: 0\.0 megapixels, at most 0\.0"):
            read(pictures[name])


def test_only_the_bytes_of_sound_color_jpegs_are_kept(pictures):
    kept = [name for name, path in pictures.items() if decode.jpeg_bytes(path) is not None]
    assert kept == ["jpeg"]
    assert decode.jpeg_bytes(pictures["jpeg"]) == pictures["jpeg"].read_bytes()


def test_shrinking_is_antialiased_and_never_enlarges():
    image = Image.fromarray(COLOUR)
    assert decode.shrink(image, short_side=fake_archives.HEIGHT) is image
    assert decode.shrink(image, short_side=1000) is image
    assert decode.shrink(image, short_side=48).size == (64, 48)
    assert decode.shrink(image.rotate(90, expand=True), short_side=48).size == (48, 64)
    assert decode.shrink(Image.new("L", (1, 500)), short_side=1).size == (1, 500)
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (96, 64)))
    shrunk = np.asarray(decode.shrink(stripes, short_side=24))[:, 4:-4]
    assert np.ptp(shrunk) < 10  # picking single columns would leave black and white
    assert abs(shrunk.mean() - 127.5) < 2


def test_encoding_keeps_color_resolution_and_alpha():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = (255, 0, 0)
    stripes[:, 1::2] = (0, 0, 255)
    encoded = decode.encode_jpeg(Image.fromarray(stripes))
    with Image.open(io.BytesIO(encoded)) as image:
        assert np.abs(np.asarray(image).astype(int) - stripes).mean() < 10  # 85 with half the colour resolution
        assert image.quantization[0][0] == 2  # quality 95
    with Image.open(io.BytesIO(decode.encode_png(Image.fromarray(GRAY)))) as image:
        assert (image.format, image.mode) == ("PNG", "L")
        np.testing.assert_array_equal(np.asarray(image), GRAY)


def test_workers_need_no_tensorflow():
    code = (
        "import sys, data_pipelines.builders.worker_pool, data_pipelines.archives.folders;"
        "print([name for name in ('tensorflow', 'tensorflow_datasets', 'jax', 'decord') if name in sys.modules])"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout == "[]\n"
