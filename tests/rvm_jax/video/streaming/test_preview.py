"""The window of a preview, with something in the place of Tk that notes what is drawn."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rvm_jax.cli.main import main
from rvm_jax.errors import InputError
from rvm_jax.video.matting import matte_video
from rvm_jax.video.streaming import preview
from tests.rvm_jax import videos

TK = """
import os

class TclError(Exception):
    pass

class Tk:
    def __init__(self):
        if "NO_SCREEN" in os.environ:
            raise TclError("no display name and\\n no $DISPLAY")
    def title(self, text):
        pass
    def winfo_screenwidth(self):
        return 200
    def winfo_screenheight(self):
        return 100
    def after(self, milliseconds, draw):
        self.next = draw
    def destroy(self):
        self.next = None
    def mainloop(self):
        self.next = self.next if "CLOSED" not in os.environ else None
        while self.next:
            draw, self.next = self.next, None
            draw()

class Label:
    def __init__(self, *_, **__):
        pass
    def pack(self):
        pass
    def configure(self, image):
        pass

class PhotoImage:
    def __init__(self, data, format):
        with open(os.environ["DRAWN"], "wb") as file:
            file.write(data)
"""


@pytest.fixture
def drawn(tmp_path, monkeypatch) -> Path:
    """What is drawn last is here."""
    (tmp_path / "tk").mkdir()
    (tmp_path / "tk" / "tkinter.py").write_text(TK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "tk"))
    monkeypatch.setenv("DRAWN", str(tmp_path / "drawn.ppm"))
    return tmp_path / "drawn.ppm"


@pytest.mark.parametrize("closed", [False, True])
def test_what_is_written_is_seen_unless_the_window_is_closed(matte, tmp_path, drawn, closed, monkeypatch):
    if closed:
        monkeypatch.setenv("CLOSED", "")
    clip = videos.write(tmp_path / "clip.mp4", videos.moving(5))
    out = tmp_path / "out"
    with preview.open_preview() as look:
        matte_video(clip, out, weights=matte, background="green", look=look)
    assert len(list(out.iterdir())) == 5
    if closed:
        assert not drawn.exists()
    else:
        np.testing.assert_array_equal(Image.open(drawn), Image.open(out / "0004.png"))


def test_where_there_is_no_screen_nothing_is_begun(tmp_path, drawn, monkeypatch, capsys):
    monkeypatch.setenv("NO_SCREEN", "")
    clip = videos.write(tmp_path / "clip.mp4", videos.moving(5))
    assert main(["matte", str(clip), str(tmp_path / "out"), "--weights", str(clip), "--preview"]) == 2
    why = "no display name and no $DISPLAY"
    assert capsys.readouterr().err == f"rvm: --preview: no window can be opened here ({why}): leave it out\n"
    assert not (tmp_path / "out").exists()


def test_a_python_without_tk_is_told(drawn):
    drawn.parent.joinpath("tk", "tkinter.py").write_text("raise ModuleNotFoundError")
    message = r"^--preview: no window can be opened here \(this Python has no Tk \(on Debian"
    with pytest.raises(InputError, match=message), preview.open_preview():
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a screen")
def test_tk_itself_is_asked():
    program = Path(preview.__file__).with_name("window.py")
    environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    result = subprocess.run([sys.executable, program], env=environment, capture_output=True, text=True, check=True)
    assert "no display" in result.stdout or "no Tk" in result.stdout
    assert result.stderr == ""


def test_large_pictures_are_made_to_fit_and_what_is_transparent_is_checkered():
    pixels = np.zeros((100, 400, 4), np.uint16)
    pixels[:, :200] = 65535, 0, 0, 65535
    header, _, content = preview._ppm(pixels, 200, 100).partition(b"\n")
    assert header == b"P6 200 50 255"
    shown = np.frombuffer(content, np.uint8).reshape(50, 200, 3)
    assert (shown[:, :95] == (255, 0, 0)).all()
    assert set(np.unique(shown[:, 105:])) == {204, 255}
