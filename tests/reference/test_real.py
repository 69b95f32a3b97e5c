"""Real weights on real frames, for those who have them: `RVM_REAL=DIR pytest tests/reference`.

The weights are GPL-3.0, so the project holds none. DIR holds `rvm_mobilenetv3_recovered.pth`, `onebyone/*.png`, and
`onebyone_expected.npz`: the alpha that the released PyTorch network gives for those frames one after another. Likewise
the released `rvm_mobilenetv3_fp32.onnx`, and what ONNX Runtime makes of it in `onebyone_released.npz`.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import rvm_jax
from rvm_jax.export import torch_network
from rvm_jax.weights.files import read_weights, write_weights

FOLDER = os.environ.get("RVM_REAL")
pytestmark = pytest.mark.skipif(not FOLDER, reason="set RVM_REAL to a folder with real weights and frames")


@pytest.fixture(scope="module")
def real():
    folder = Path(FOLDER or "")
    images = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.glob("onebyone/*.png"))]
    matte = rvm_jax.load(folder / "rvm_mobilenetv3_recovered.pth")
    return matte, np.stack(images)[None].astype(np.float32) / 255, np.load(folder / "onebyone_expected.npz")


@pytest.mark.parametrize("length", [1, 5, 16])
def test_real_video(real, length):
    matte, frames, expected = real
    state, alphas = None, []
    for start in range(0, frames.shape[1], length):
        chunk = frames[:, start : start + length]
        foreground, alpha, state = matte(chunk, state, float(expected["downsample_ratio"]))
        alphas.append(alpha)
    alpha = np.concatenate(alphas, 1)[0, ..., 0]
    assert np.abs(alpha - expected["pha"] / 65535).mean(axis=(1, 2)).max() < 1e-4
    assert np.abs(foreground[0, -1] * 255 - expected["last_fgr"].astype(np.float32)).max() < 1


def test_single_frames_and_the_automatic_ratio(real):
    matte, frames, expected = real
    # 768 pixels wide: the automatic ratio is the one of the expected alphas.
    alpha = np.asarray(matte(frames[0, 0]).alpha)
    assert np.abs(alpha[..., 0] - expected["pha"][0] / 65535).mean() < 1e-4


def test_the_released_onnx_file(real, tmp_path):
    _, frames, _ = real
    path, expected = (Path(FOLDER or "") / name for name in ("rvm_mobilenetv3_fp32.onnx", "onebyone_released.npz"))
    expected = np.load(expected)
    matte = rvm_jax.load(path)
    alpha = np.asarray(matte(frames, downsample_ratio=float(expected["downsample_ratio"])).alpha)[0, ..., 0]
    assert np.abs(alpha - expected["pha"].reshape(alpha.shape) / 65535).mean() < 1e-5
    write_weights(read_weights(path), tmp_path / "a.pth")
    twin = torch_network.MattingNetwork("mobilenetv3")
    twin.load_state_dict(torch.load(tmp_path / "a.pth", weights_only=True))


def test_a_folder_of_pictures_through_the_command(real, tmp_path):
    matte, _, expected = real
    rvm_jax.matte_video(Path(FOLDER or "") / "onebyone", tmp_path / "out", weights=matte)
    written = np.stack([np.asarray(Image.open(path)) for path in sorted((tmp_path / "out").iterdir())])
    assert np.abs(written[..., 3] / 255 - expected["pha"] / 65535).mean(axis=(1, 2)).max() < 1e-4
    seen = written[-1, ..., 3] > 0
    assert np.abs(written[-1, ..., :3].astype(int) - expected["last_fgr"].reshape(432, 768, 3))[seen].max() <= 1
