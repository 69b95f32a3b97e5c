"""A clean plate as a second upload: of networks that want one, by the API and in one line if it is wrong."""

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from rvm_jax.errors import InputError
from rvm_jax.serve import app, jobs
from rvm_jax.serve.access import Access
from rvm_jax.serve.jobs import Service
from rvm_jax.serve.requests import Options
from rvm_jax.serve.uploads import Limits
from rvm_jax.video.matting import matte_video
from tests.rvm_jax import videos
from tests.rvm_jax.serve.servers import ask, form, upload
from tests.rvm_jax.serve.submitting import COUNT, finished, sent
from tests.rvm_jax.video.plates.hand_held import small_network
from tests.rvm_jax.video.test_matting import read


@pytest.fixture(scope="module")
def network():
    return small_network()


@pytest.fixture(scope="module")
def comparing(network) -> Iterator[Service]:
    with jobs.serving(network, Limits(megabytes=1, seconds=10, side=200, waiting=20)) as service:
        yield service


@pytest.fixture(scope="module")
def address(comparing) -> Iterator[str]:
    with app.serve_page(comparing, Access(), "127.0.0.1", 0) as address:
        yield address


def png(height: int = videos.HEIGHT, width: int = videos.WIDTH, light: int = 90) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), light, np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("way", ["upload", "form", "auto"])
def test_a_job_with_a_plate_is_what_matte_video_makes(address, network, video, tmp_path, way):
    (tmp_path / "clip.mp4").write_bytes(video)
    (tmp_path / "plate.png").write_bytes(png())
    if way == "form":
        body, kind = form(video=("clip.mp4", video), plate=("empty.png", png()), format="mov")
        job = ask(address, "POST", "/v1/jobs", body, Content_Type=kind)
    else:
        plate = "auto" if way == "auto" else {"upload": upload(address, "empty.png", png())}
        given = {"video": upload(address, "clip.mp4", video), "plate": plate, "format": "mov"}
        job = ask(address, "POST", "/v1/jobs", given)
    assert job.status == 201, job.body
    (tmp_path / "made.mov").write_bytes(ask(address, "GET", f"/v1/jobs/{job.json['id']}/matte?wait=1").body)
    plate = "auto" if way == "auto" else str(tmp_path / "plate.png")
    matte_video(tmp_path / "clip.mp4", tmp_path / "expected.mov", weights=network, plate=plate)
    assert len(read(tmp_path / "made.mov")) == COUNT
    assert (read(tmp_path / "made.mov") == read(tmp_path / "expected.mov")).all()


def test_settings_tell_that_a_plate_is_wanted(address):
    settings = ask(address, "GET", "/v1/settings").json
    assert (settings["needs_plate"], settings["live"], settings["details"]) == (True, False, ["automatic"])
    assert settings["network"] == "bgmv2_base_small"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "this network needs a clean plate: send the same view without the person as plate, or auto"),
        ({"plate": "mean"}, "plate mean: expected an uploaded file, or auto"),
        ({"plate": "auto", "align_plate": True}, "only a plate that was sent can be aligned"),
        ({"plate": "auto", "detail": "finer"}, "this network looks at pictures at a size of its own"),
    ],
)
def test_options_that_do_not_go_together_are_refused(comparing, options, message):
    with pytest.raises(InputError) as caught:
        jobs.submit(comparing, Options(sent(comparing), **options))
    assert str(caught.value).startswith(message)


def test_a_network_without_need_takes_no_plate(service):
    with pytest.raises(InputError, match="this network takes no clean plate: leave the plate out"):
        jobs.submit(service, Options(sent(service), plate=sent(service, "p.png", png())))


@pytest.mark.parametrize(
    ("plate", "align", "message"),
    [
        (png(light=0), False, "the plate is black: expected the same view as in clip.mp4, without the person"),
        (
            png(20, 90),
            False,
            "the plate has 90×20 pixels, and clip.mp4 64×48, another shape: crop one to the other, or",
        ),
        (png(), True, "the plate has 0 corners, too few to align it by: film from a tripod, and do not ask"),
    ],
    ids=["black", "shape", "plain"],
)
def test_a_plate_that_does_not_serve_is_told_in_words_of_the_page(comparing, plate, align, message):
    options = Options(sent(comparing), plate=sent(comparing, "p.png", plate), align_plate=align)
    job = finished(comparing, jobs.submit(comparing, options))
    assert job.error.startswith(message), job.error
    assert "--" not in job.error
