import av
import numpy as np
import pytest
from PIL import Image

from data_pipelines.pipelines import datasets
from data_pipelines.tools import preview
from rvm_jax.errors import InputError

NAMES = ["synthetic/tiny_matting_clips", "synthetic/tiny_background_clips"]


def write(data, folder, **options):
    options = {"clips": 2, "frames": 5, "size": 64, "seed": 0, "augmentation": "auto", "overwrite": False} | options
    return list(preview.write(data, folder, **options))


def test_a_batch_is_shown_with_its_composite():
    foreground, alpha, background = (np.full((1, 1, 4, 4, c), v, np.uint8) for c, v in ((3, 200), (1, 51), (3, 100)))
    shown = preview.layers({"foreground": foreground, "alpha": alpha, "background": background})
    assert list(shown) == ["source", "foreground", "alpha", "background"]
    assert (shown["source"] == 120).all()  # 200 · 0.2 + 100 · 0.8
    assert (shown["alpha"] == 51).all()


def test_segmentation_is_shown_with_its_mask():
    image = np.full((1, 1, 2, 2, 3), 100, np.uint8)
    mask = np.array([[1, 0], [0, 1]], np.uint8).reshape(1, 1, 2, 2, 1)
    shown = preview.layers({"image": image, "mask": mask})
    np.testing.assert_array_equal(shown["mask"][0, 0, :, :, 0], [[255, 0], [0, 255]])
    np.testing.assert_array_equal(shown["both"][0, 0, 0], [[50, 177, 50], [100, 100, 100]])


def test_a_preview_is_a_picture_and_a_video(prepared, tmp_path):
    data = datasets.open_named(NAMES, "train", prepared)
    paths = write(data, tmp_path / "out")
    assert [path.name for path in paths] == ["grid.png", "clips.mp4"]
    picture = np.asarray(Image.open(paths[0]))
    with av.open(str(paths[1])) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 5
    rows, columns = picture.shape[0] // 8, picture.shape[1] // 5  # two clips of four layers, five frames
    height, width = (side - side % 2 for side in (2 * rows, 4 * columns))
    assert frames[0].shape == (height, width, 3)
    # The first frame of the film has the first clip's layers side by side, as they are in the grid's first column.
    first = np.concatenate([picture[layer * rows : (layer + 1) * rows, :columns] for layer in range(4)], 1)
    ours = frames[0][: rows - rows % 2, :width].astype(int)
    assert np.abs(ours - first[: rows - rows % 2, :width]).mean() < 6
    assert np.abs(frames[0].astype(int) - frames[-1]).mean() > 1


def test_segmentation_and_stills_have_previews(prepared, tmp_path):
    data = datasets.open_named(["synthetic/tiny_segmentation_images"], "train", prepared)
    assert len(write(data, tmp_path, frames=1)) == 2
    picture = np.asarray(Image.open(tmp_path / "grid.png"))
    assert picture.shape[0] % (2 * 3) == 0


def test_large_pictures_become_thumbnails():
    image, mask = np.zeros((1, 1, 1000, 500, 3), np.uint8), np.ones((1, 1, 1000, 500, 1), np.uint8)
    assert preview.layers({"image": image, "mask": mask})["mask"].shape == (1, 1, 256, 128, 3)


def test_a_preview_replaces_nothing_unasked(prepared, tmp_path):
    data = datasets.open_named(NAMES, "train", prepared)
    (tmp_path / "clips.mp4").write_text("mine")
    with pytest.raises(InputError, match=r"clips\.mp4 exists already: .* --force"):
        write(data, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["clips.mp4"]
    write(data, tmp_path, overwrite=True)
    assert (tmp_path / "clips.mp4").stat().st_size > 100


def test_a_senseless_preview_is_refused(prepared, tmp_path):
    data = datasets.open_named(NAMES, "train", prepared)
    with pytest.raises(InputError, match="0 clips of 5 frames from 64 pixels: expected 1 to 32 clips"):
        write(data, tmp_path, clips=0)
    with pytest.raises(InputError, match="32 clips of 100 frames from 4096 pixels are 376 GB: ask for less"):
        write(data, tmp_path, clips=32, frames=100, size=4096)
    assert list(tmp_path.iterdir()) == []
