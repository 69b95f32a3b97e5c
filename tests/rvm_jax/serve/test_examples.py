"""What docs/page.md tells programs to do, done."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rvm_jax.serve import app, jobs
from rvm_jax.serve.access import Access
from rvm_jax.serve.uploads import Limits
from tests.rvm_jax import videos
from tests.rvm_jax.video.test_matting import read

PAGE = (Path(__file__).parents[3] / "docs" / "page.md").read_text()


@pytest.fixture
def example(matte, tmp_path, monkeypatch):
    """An example of the docs of some language, for a server that is there, beside a video to matte."""
    monkeypatch.chdir(tmp_path)
    videos.write(tmp_path / "talk.mp4", videos.moving(5), rate=10)
    with jobs.serving(matte, Limits()) as service, app.serve_page(service, Access(), "127.0.0.1", 0) as address:

        def text(language: str, start: str) -> str:
            (found,) = re.findall(rf"```{language}\n({start}.*?)```", PAGE, re.S)
            return found.replace("http://127.0.0.1:7860", address.rstrip("/"))

        yield text
        assert read(tmp_path / "matte.mp4").shape == (5, 48, 64, 3)


def test_curl_in_one_line(example):
    if shutil.which("curl") is None:
        pytest.skip("curl is not here")
    line = example("sh", "curl")
    assert line.count("\n") == 1
    subprocess.run(["sh", "-c", line], check=True)


def test_python(example, monkeypatch, capsys):
    pytest.importorskip("httpx")
    monkeypatch.setattr("time.sleep", lambda _: None)
    names: dict[str, Any] = {}
    exec(example("python", "import"), names)
    names["server"].close()
    assert capsys.readouterr().out.splitlines()[-1] == "done 5 of 5 "
