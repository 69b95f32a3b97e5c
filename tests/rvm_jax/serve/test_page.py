"""The page as a person uses it, in a browser."""

import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import pytest
from PIL import Image

from rvm_jax.video import sink
from rvm_jax.video.matting import matte_video
from tests.rvm_jax import videos
from tests.rvm_jax.serve.servers import COUNT, SAME_BITS, listening
from tests.rvm_jax.serve.test_uploads import sound
from tests.rvm_jax.video.test_matting import read

pytestmark = pytest.mark.slow

QUIET = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync"
PATIENCE = 60_000  # milliseconds: programs are compiled


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    path = os.environ.get("RVM_BROWSER") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no browser: install Chromium, or say where one is with RVM_BROWSER=PATH")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=QUIET.split())
        yield browser
        browser.close()


@pytest.fixture
def asked() -> list[str]:
    """The addresses that pages ask for."""
    return []


@pytest.fixture
def opened(browser, server, asked) -> Iterator[Any]:
    """A function that opens the page, each time as somebody else."""
    contexts = []

    def page(width: int = 1280, address: str = server.address) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900})
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        context.on("request", lambda request: asked.append(request.url))
        page = context.new_page()
        page.on("websocket", lambda socket: asked.append(socket.url))
        page.goto(address)
        return page

    yield page
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def long(tmp_path_factory) -> Path:
    frames = np.tile(videos.moving(50, 96, 128), (50, 1, 1, 1))
    return videos.write(tmp_path_factory.mktemp("clips") / "long.mp4", frames, options={"crf": "30"})


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "behind.png"
    Image.fromarray(videos.moving(1)[0, ::-1, ::-1]).save(path)
    return path


def drop(page: Any, path: Path | dict[str, Any], where: str = "video") -> None:
    page.locator(f"#{where} input[type=file]").set_input_files(path)


def wait_for_status(page: Any, text: str) -> str:
    page.locator("#status").get_by_text(re.compile(text)).first.wait_for()
    return page.locator("#status").inner_text()


def save(page: Any, button: str, folder: Path) -> Path:
    with page.expect_download() as download:
        page.locator(f"#{button}").click()
    path = folder / f"{button}-{download.value.suggested_filename}"
    download.value.save_as(path)
    return path


def test_each_background_from_the_drop_to_the_download(
    opened, asked, server, network, clip, picture, tmp_path, monkeypatch
):
    monkeypatch.setitem(sink.FORMATS[".mp4"].options, *SAME_BITS)
    page = opened()
    drop(page, clip)
    page.locator("#shown img.matte").wait_for()
    last = None
    for label, background in (
        ("Green", "green"),
        ("A colour", "#1e90ff"),
        ("A picture or video", str(picture)),
        ("A picture or video", str(clip)),
        ("Blurred original", "blur"),
        ("Transparent", "transparent"),
    ):
        page.get_by_label(label, exact=True).check()
        if background in (str(picture), str(clip)):
            if page.locator("#behind button[aria-label='Clear']").count():
                page.locator("#behind button[aria-label='Clear']").click()
            drop(page, Path(background), "behind")
            page.locator(f"#behind a[download='{Path(background).name}']").wait_for()  # the name alone is there sooner
        page.locator("#go").click()
        page.locator(f"#shown video.matte:not([src='{last}'])").wait_for()
        last = page.locator("#shown video.matte").get_attribute("src")
        assert page.locator("#status").inner_text() == f"Done: {COUNT} frames."
        made, alpha = (save(page, button, tmp_path) for button in ("download", "download-alpha"))
        ending = ".webm" if background == "transparent" else ".mp4"
        assert made.name == f"download-matte{ending}"
        expected = tmp_path / f"expected{ending}", tmp_path / "expected-alpha.mp4"
        options = {"weights": network, "background": background, "alpha": expected[1], "force": True}
        matte_video(clip, expected[0], **options)
        for one, other in zip((made, alpha), expected, strict=True):
            assert read(one).shape == (COUNT, 48, 64, 3)
            assert np.abs(read(one).astype(int) - read(other)).mean() < 0.5, background
        assert np.ptp(read(alpha)) > 50
    assert {urlparse(url).netloc for url in asked if not url.startswith(("data:", "blob:"))} == {server.host}


def test_an_mp4_and_transparency_exclude_each_other(opened):
    page = opened()
    page.get_by_label("Transparent", exact=True).check()
    page.locator("#kind :checked[value=webm]").wait_for()
    page.get_by_label("MP4: plays everywhere, no transparency").check()
    page.locator("#background :checked[value=green]").wait_for()


def test_who_is_quicker_than_the_page_gets_transparency(opened, clip, tmp_path):
    """The page hears from the server that transparency is not for MP4; here it hears it late."""
    page = opened()
    drop(page, clip)
    page.locator("#shown img.matte").wait_for()
    late: list[Any] = []
    quick = False
    page.route("**/queue/join*", lambda route: route.continue_() if quick else late.append(route))
    page.get_by_label("Transparent", exact=True).check()
    while not late:
        page.wait_for_timeout(50)
    quick = True
    page.locator("#go").click()
    page.locator("#shown video.matte").wait_for()
    for route in late:
        route.continue_()
    assert save(page, "download", tmp_path).name == "download-matte.webm"


def test_a_result_stays_when_what_comes_next_is_refused(opened, clip, tmp_path):
    page = opened()
    drop(page, clip)
    page.locator("#shown img.matte").wait_for()
    page.locator("#go").click()
    wait_for_status(page, f"Done: {COUNT} frames")
    page.get_by_text("More", exact=True).click()
    page.locator("#start input").fill("100")
    page.locator("#start input").blur()
    page.locator("#shown").get_by_text("start before that").wait_for()
    page.locator("#go").click()
    wait_for_status(page, "start before that")
    assert read(save(page, "download", tmp_path)).shape == (COUNT, 48, 64, 3)
    assert read(save(page, "download-alpha", tmp_path)).shape == (COUNT, 48, 64, 3)
    page.locator("#start input").fill("0.5")
    page.locator("#start input").blur()
    page.locator("#shown img.matte").wait_for()
    page.locator("#go").click()
    wait_for_status(page, f"Done: {COUNT - 5} frames")


def test_the_page_of_the_api_asks_no_other_host_either(opened, asked, server):
    page = opened()
    page.get_by_text("Use via API").click()
    page.get_by_text("/matte").first.wait_for()
    page.wait_for_timeout(2000)
    assert {urlparse(url).netloc for url in asked if not url.startswith(("data:", "blob:"))} == {server.host}


def test_browsers_are_told_to_ask_no_other_host(opened):
    page = opened()
    with listening() as (address, heard):
        failed = page.evaluate("url => fetch(url, {mode: 'no-cors'}).then(() => false, () => true)", address)
    assert failed
    assert heard == []


def test_result_and_original_play_together_and_alpha_is_shown_on_a_switch(opened, clip):
    page = opened(width=390)
    drop(page, clip)
    page.locator("#shown img.matte").wait_for()
    page.locator("#go").click()
    page.locator("#shown video.matte").wait_for()
    seek = "video => new Promise(done => { video.onseeked = done; video.currentTime = 0.5; })"
    page.locator("video.original").evaluate(seek)
    for name in ("matte", "alpha"):
        page.wait_for_function(f"document.querySelector('video.{name}').currentTime === 0.5")
    assert page.locator("video.alpha").is_hidden()
    page.get_by_label(re.compile("Alpha")).check()
    assert page.locator("video.alpha").is_visible()
    assert page.locator("video.matte").is_hidden()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_job_is_seen_and_cancelled_and_leaves_nothing(opened, server, long):
    page = opened()
    drop(page, long)
    page.locator("#shown img.matte").wait_for()
    folders = set(server.temporary.glob("*/*"))
    page.locator("#go").click()
    wait_for_status(page, r"\d+ of 2500 frames · [\d.]+ fps · \d+:\d\d left")
    page.locator("#cancel").click()
    wait_for_status(page, "Cancelled")
    assert page.locator("#download").is_hidden()
    assert page.locator("#go").is_enabled()
    assert set(server.temporary.glob("*/*")) <= folders


def test_a_closed_tab_ends_its_job(opened, server, long):
    page = opened()
    drop(page, long)
    page.locator("#shown img.matte").wait_for()
    folders = set(server.temporary.glob("*/*"))
    page.locator("#go").click()
    wait_for_status(page, r"\d+ of 2500 frames")
    (folder,) = set(server.temporary.glob("*/*")) - folders
    page.close()
    end = time.monotonic() + PATIENCE / 1000
    while folder.exists() and time.monotonic() < end:
        time.sleep(0.1)
    assert not folder.exists()


def test_of_two_jobs_one_waits(opened, long):
    first, second = opened(), opened()
    for page in (first, second):
        drop(page, long)
        page.locator("#shown img.matte").wait_for()
    first.locator("#go").click()
    wait_for_status(first, r"\d+ of 2500 frames")
    second.locator("#go").click()
    wait_for_status(second, "Waiting: 1 before yours")
    first.locator("#cancel").click()
    wait_for_status(second, r"\d+ of 2500 frames")
    second.locator("#cancel").click()
    wait_for_status(second, "Cancelled")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.mp4", b"no video at all", "notes.mp4 cannot be read as a video: expected an MP4"),
        ("none.mp4", b"", "none.mp4 is empty"),
        ("song.mp4", sound, "song.mp4 holds no video, only sound"),
        ("../../../evil.mp4", b"no video", "evil.mp4 cannot be read as a video"),
        ("<img src=x onerror=alert(1)>.mp4", b"no video", "alert(1)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_matted_is_told_on_the_page(opened, server, clip, tmp_path, name, content, message):
    page = opened()
    alerts: list[Any] = []
    page.on("dialog", lambda dialog: alerts.append(dialog))
    data = content(tmp_path / "song.mp4") if callable(content) else content
    drop(page, {"name": name, "mimeType": "video/mp4", "buffer": data})
    page.locator("#shown [role=alert]").get_by_text(message).wait_for()
    page.locator("#go").click()
    assert message in wait_for_status(page, re.escape(message))
    assert all(path.is_relative_to(server.temporary) for path in server.files())
    assert not list(server.temporary.parent.glob("evil*"))
    assert alerts == []
    page.locator("#video button[aria-label='Clear']").click()
    drop(page, clip)
    page.locator("#shown img.matte").wait_for()


def test_a_file_over_the_limit_is_refused_by_the_page(opened):
    page = opened()
    drop(page, {"name": "large.mp4", "mimeType": "video/mp4", "buffer": bytes(1_100_000)})
    page.get_by_text(re.compile("exceed the maximum allowed size")).first.wait_for()
