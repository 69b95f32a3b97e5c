"""The page about deploying: its commands and programs do what it says, from top to bottom."""

import ast
import re
import shlex
from pathlib import Path

import av
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import rvm_jax
from rvm_jax.cli.main import main
from rvm_jax.export import sample_clip
from rvm_jax.model.network import MattingNetwork
from rvm_jax.model.variants import VARIANTS
from rvm_jax.weights.files import Weights, write_weights
from tests.rvm_jax.conftest import random_variables

PAGE = (Path(__file__).parent.parent / "docs" / "deploy.md").read_text()
# A section, its commands `    rvm ...` and its programs, in their order.
STEP = re.compile(
    r"^## (?P<section>[^\n]+)$|^    (?P<command>rvm export [^\n]+)$|^```python\n(?P<program>.*?)^```", re.M | re.S
)
NOT_HERE = ("TensorRT", "Core ML")  # what they need runs on NVIDIA GPUs, and on Apple's systems
# What tests/rvm_jax/export/test_baselines.py and test_hub.py run.
ELSEWHERE = ("MODNet, BackgroundMattingV2, U²-Net", "On the Hugging Face Hub")
# The page tells of networks and frames of real size, and of GPUs.
SMALLER = {
    '"mobilenetv3"': '"tiny"',
    "1920x1080": "96x54",
    "0.25": "0.5",
    "1080, 1920": "54, 96",
    '"cuda"': '"cpu"',
    "CUDAExecutionProvider": "CPUExecutionProvider",
}


def steps() -> list[tuple[str, str, str]]:
    """(section, "command" or "program", text) of the page, but for sections that are tested elsewhere."""
    section, found = "", []
    for match in STEP.finditer(PAGE):
        section = match["section"] or section
        kind = match.lastgroup
        if kind != "section" and section not in ELSEWHERE:
            found.append((section, kind, match[kind]))
    return found


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with weights and a video of the names that the page uses."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rvm_jax.export.export.DRAWN_SIZE", (54, 96))
    monkeypatch.setattr("rvm_jax.export.export.FRAMES", 2)
    variables = random_variables(MattingNetwork("tiny"), jnp.float32)
    loaded = Weights(VARIANTS["tiny"], "deep_guided_filter", jax.tree.map(np.asarray, variables))
    write_weights(loaded, "rvm_mobilenetv3.pth")
    with av.open("in.mp4", "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 54, "yuv420p"
        for frame in sample_clip.draw((54, 96), 4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_what_the_page_says_works(workplace):
    first, *others = steps()
    assert first[1] == "program", "the page begins with how frames are read"
    names: dict = {}
    exec(first[2], names)
    frames = list(names["frames"]("in.mp4"))
    matte, state, expected = rvm_jax.load("rvm_mobilenetv3.pth"), None, []
    for src in frames:
        _, alpha, state = matte(src.transpose(0, 2, 3, 1)[:, None], state, 0.5)
        expected.append(np.asarray(alpha[:, 0]).transpose(0, 3, 1, 2))
    assert len(expected) == 4
    assert np.abs(expected[-1] - expected[0]).max() > 0.05

    ran = []
    for section, kind, text in others:
        for large, small in SMALLER.items():
            text = text.replace(large, small)
        if kind == "command":
            assert main(shlex.split(text)[1:]) == 0
        elif section in NOT_HERE:
            ast.parse(text)
        else:
            inside = dict(names)
            exec(text, inside)
            ran.append(section)
            assert len(inside["alphas"]) == len(expected)
            for given, alpha in zip(inside["alphas"], expected, strict=True):
                np.testing.assert_allclose(given, alpha, rtol=0, atol=1e-4, err_msg=section)
    assert ran == ["PyTorch", "TorchScript", *["ONNX Runtime"] * 3, "JAX without this package"]
    assert Path("rvm_mobilenetv3_96x54_float16.onnx").exists()
