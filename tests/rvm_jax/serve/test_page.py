"""The page as a person uses it, in a browser. It is waited for what the page says of itself, never for a time."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import av
import numpy as np
import pytest
from PIL import Image

from rvm_jax.serve import access, app, jobs
from rvm_jax.serve.uploads import Limits
from rvm_jax.video import sink
from rvm_jax.video.matting import matte_video
from tests.rvm_jax import videos
from tests.rvm_jax.serve.servers import COUNT, SAME_BITS, listening
from tests.rvm_jax.serve.test_uploads import sound
from tests.rvm_jax.video.plates.hand_held import small_network
from tests.rvm_jax.video.test_matting import read

pytestmark = pytest.mark.slow

QUIET = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync"
CAMERA = "--use-fake-device-for-media-stream --use-fake-ui-for-media-stream"
PATIENCE = 30_000  # milliseconds: programs are compiled


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    path = os.environ.get("RVM_BROWSER") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no browser: install Chromium, or say where one is with RVM_BROWSER=PATH")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=f"{QUIET} {CAMERA}".split())
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

    def page(width: int = 1280, address: str = server.address, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        context.on("request", lambda request: asked.append(request.url))
        page = context.new_page()
        page.on("websocket", lambda socket: asked.append(socket.url))
        page.goto(address)
        page.locator("body:not([data-state=loading])").wait_for()
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


def drop(page: Any, *files: Path | dict[str, Any], where: str = "video") -> None:
    page.locator(f"#{where}").set_input_files(list(files))


def stage(page: Any, state: str) -> Any:
    """The stage, once it is in this state."""
    there = page.locator(f"#stage[data-state={state}]")
    there.wait_for()
    return there


def job(page: Any, state: str, number: int = 1) -> Any:
    """The newest job, or one before it, once it is in this state."""
    there = page.locator(f"#jobs > li:nth-child({number})[data-state={state}]")
    there.wait_for()
    return there


def choose(page: Any, name: str, value: str) -> None:
    page.locator(f"input[name={name}][value={value}]").check()


def until(page: Any, condition: str) -> None:
    """Wait for what no attribute tells. (Playwright's own way is an `eval`, which the page's policy forbids.)"""
    page.evaluate(
        f"""async () => {{
            for (const end = performance.now() + {PATIENCE}; !({condition}); await new Promise(requestAnimationFrame))
                if (performance.now() > end) throw new Error("this did not come to be");
        }}"""
    )


def save(row: Any, kind: str, folder: Path) -> Path:
    with row.page.expect_download() as download:
        row.locator(f".{kind}").click()
    path = folder / f"{kind}-{download.value.suggested_filename}"
    download.value.save_as(path)
    return path


def test_each_background_from_the_drop_to_the_download(
    opened, asked, server, network, clip, picture, tmp_path, monkeypatch
):
    monkeypatch.setitem(sink.FORMATS[".mp4"].options, *SAME_BITS)
    page = opened()
    drop(page, clip)
    stage(page, "preview")
    for number, (value, background) in enumerate(
        {
            "green": "green",
            "color": "#1e90ff",
            "file": str(picture),
            "blur": "blur",
            "transparent": "transparent",
        }.items(),
        1,
    ):
        choose(page, "background", value)
        if value == "file":
            drop(page, Path(background), where="behind")
        page.locator("#go").click()
        page.locator(f"#jobs > li:nth-last-child({number})[data-state=done]").wait_for()
        row = job(page, "done")
        assert row.locator("p").inner_text() == f"Done: {COUNT} frames."
        made, alpha = (save(row, kind, tmp_path) for kind in ("matte", "alpha"))
        ending = ".webm" if background == "transparent" else ".mp4"
        assert made.name == f"matte-clip-matte{ending}"
        expected = tmp_path / f"expected{ending}", tmp_path / "expected-alpha.mp4"
        options = {"weights": network, "background": background, "alpha": expected[1], "force": True}
        matte_video(clip, expected[0], **options)
        for one, other in zip((made, alpha), expected, strict=True):
            assert read(one).shape == (COUNT, 48, 64, 3)
            assert np.abs(read(one).astype(int) - read(other)).mean() < 0.5, background
        assert np.ptp(read(alpha)) > 50
    page.locator("#api summary").click()
    page.locator("#api[data-state=shown]").get_by_text("POST /v1/jobs", exact=True).wait_for()
    assert {urlparse(url).netloc for url in asked if not url.startswith("blob:")} == {server.host}


def test_an_mp4_and_transparency_exclude_each_other(opened):
    page = opened()
    choose(page, "background", "transparent")
    assert page.locator("input[value=webm]").is_checked()
    choose(page, "format", "mp4")
    assert page.locator("input[value=green]").is_checked()
    choose(page, "format", "mov")
    assert page.locator("input[value=transparent]").is_checked()


def test_a_result_stays_when_what_comes_next_is_refused(opened, clip, tmp_path):
    page = opened()
    file = """bytes => {
        const data = new DataTransfer();
        data.items.add(new File([Uint8Array.from(bytes)], "clip.mp4", {type: "video/mp4"}));
        return data;
    }"""
    data = page.evaluate_handle(file, list(clip.read_bytes()))
    page.locator("#drop").dispatch_event("drop", {"dataTransfer": data})
    page.locator("#go").click()
    job(page, "done")
    page.locator("#more summary").click()
    page.locator("#start").fill("100")
    page.locator("#start").blur()
    stage(page, "failed").get_by_text("start before that").wait_for()
    page.locator("#go").click()
    page.locator("#message").get_by_text("start before that").wait_for()
    row = job(page, "done")
    for kind in ("matte", "alpha"):
        assert read(save(row, kind, tmp_path)).shape == (COUNT, 48, 64, 3)
    page.locator("#start").fill("0.5")
    page.locator("#start").blur()
    page.locator("#go").click()
    job(page, "done", 2)
    assert job(page, "done").locator("p").inner_text() == f"Done: {COUNT - 5} frames."


def test_browsers_are_told_to_ask_no_other_host(opened):
    page = opened()
    with listening() as (address, heard):
        failed = page.evaluate("url => fetch(url, {mode: 'no-cors'}).then(() => false, () => true)", address)
    assert failed
    assert heard == []


def test_before_and_after_play_together_on_a_phone_in_the_dark(opened, clip):
    page = opened(width=390, color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 28)"
    drop(page, clip)
    stage(page, "preview")
    page.locator("#go").click()
    page.locator("#stage[data-state=result][data-before][data-alpha]").wait_for()
    page.locator("#time").fill("0.5")
    until(page, "[...document.querySelectorAll('video')].map(one => one.currentTime).join() === '0.5,0.5,0.5'")
    page.locator("#play").click()
    until(page, "[...document.querySelectorAll('video')].every(one => !one.paused)")
    page.locator("#cut").focus()
    page.keyboard.press("End")
    clip_path = "getComputedStyle(document.querySelector('.before')).clipPath"
    assert page.evaluate(clip_path) == "inset(0px 0% 0px 0px)"
    box = page.locator("#frame").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 10)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 10)
    page.mouse.up()
    assert page.locator("#cut").input_value() == "25"
    assert page.locator("video.alpha").is_hidden()
    page.locator("#alpha").check()
    assert page.locator("video.alpha").is_visible()
    page.locator("#more summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_of_two_jobs_one_waits_and_what_is_cancelled_leaves_nothing(opened, server, long):
    first, second = opened(), opened()
    for page in (first, second):
        drop(page, long)
        stage(page, "preview")
    files = server.files()
    first.locator("#go").click()
    job(first, "running").get_by_text(re.compile(r"\d+ of 2500 frames · [\d.]+ fps · \d+:\d\d left")).wait_for()
    stage(first, "running").locator("img.after").wait_for()
    second.locator("#go").click()
    assert job(second, "waiting").locator("p").inner_text() == "Waiting: this one is next"
    assert second.locator("#jobs > li").count() == 1  # the other's is not to be seen
    first.locator("#jobs .remove").click()
    job(first, "cancelled")
    job(second, "running").locator(".remove").click()
    job(second, "cancelled")
    assert first.locator("#jobs .matte").is_hidden()
    assert first.locator("#go").is_enabled()
    assert {file.name for file in server.files()} <= {file.name for file in files}


def test_a_job_goes_on_when_its_tab_is_closed_and_is_found_by_its_address(opened, clip, long, tmp_path):
    page = opened()
    drop(page, long, clip)
    page.locator("#end").evaluate("end => end.value = 8")
    page.locator("#go").click()
    page.wait_for_url("**/jobs/*")
    address = page.url
    context = page.context
    page.close()
    page = context.new_page()
    page.goto(address)
    stage(page, "result")
    row = job(page, "done", 2)
    assert row.get_attribute("aria-current") == "true"
    assert save(row, "matte", tmp_path).name == "matte-long-matte.mp4"
    stranger = opened(address=address)
    stage(stranger, "failed").get_by_text("not here any more").wait_for()


def test_what_cannot_be_matted_is_told_and_the_other_files_are_matted(opened, server, clip, tmp_path):
    page = opened()
    alerts: list[Any] = []
    page.on("dialog", lambda dialog: alerts.append(dialog))
    refused = {
        "notes.mp4": (b"no video at all", "notes.mp4 cannot be read as a video: expected an MP4"),
        "none.mp4": (b"", "none.mp4 is empty"),
        "song.mp4": (sound(tmp_path / "song.mp4"), "song.mp4 holds no video, only sound"),
        "../../../evil.mp4": (b"no video", "evil.mp4 cannot be read as a video"),
        "<img src=x onerror=alert(1)>.mp4": (b"no video", "alert(1)"),
    }
    for name, (content, message) in refused.items():
        drop(page, {"name": name, "mimeType": "video/mp4", "buffer": content})
        stage(page, "failed").get_by_text(message).wait_for()
        page.locator("#go").click()
        page.locator("#message").get_by_text(message).wait_for()
        page.locator("#sent .remove").click()
    several = {"clip.mp4": clip.read_bytes(), "notes.mp4": b"no video at all", "other.mp4": clip.read_bytes()}
    drop(page, *({"name": name, "mimeType": "video/mp4", "buffer": data} for name, data in several.items()))
    stage(page, "preview")
    page.locator("#go").click()
    page.locator("#message").get_by_text("notes.mp4 cannot be read").wait_for()
    names = [save(job(page, "done", number), "matte", tmp_path).name for number in (1, 2)]
    assert names == ["matte-other-matte.mp4", "matte-clip-matte.mp4"]
    assert page.locator("#jobs > li").count() == 2
    page.locator("#example").click()
    stage(page, "failed").get_by_text("example.mp4 has 640×360 pixels: expected at most 200").wait_for()
    large = {"name": "large.mp4", "mimeType": "video/mp4", "buffer": bytes(1_100_000)}
    drop(page, large)
    page.locator("#sent [data-state=failed]").get_by_text("at most 1 MB").wait_for()
    assert all(path.is_relative_to(server.temporary) for path in server.files())
    assert not list(server.temporary.parent.glob("evil*"))
    assert alerts == []


def test_an_upload_goes_on_after_a_broken_line(opened, clip):
    page = opened()
    pieces: list[str] = []
    broken = False

    def line(route: Any) -> None:
        nonlocal broken
        if route.request.method == "PATCH":
            pieces.append(route.request.headers["upload-offset"])
            if len(pieces) == 2:  # it comes, and the answer is lost
                route.fetch()
                broken = True
        route.abort() if broken else route.continue_()

    page.route("**/v1/uploads/*", line)
    page.route("**/v1/uploads", lambda route: small_pieces(route, 1000))
    drop(page, clip)
    page.locator("#sent [data-state=broken]").get_by_text("it goes on as soon as it can").wait_for()
    broken = False
    page.locator("#sent [data-state=uploaded]").wait_for()
    stage(page, "preview")
    assert pieces == [str(offset) for offset in range(0, clip.stat().st_size, 1000)]


def small_pieces(route: Any, size: int) -> None:
    """Let the server's answer to a new upload say that pieces have so many bytes."""
    response = route.fetch()
    route.fulfill(response=response, json={**response.json(), "piece": size})


def test_who_has_a_password_logs_in_and_out(opened, service, tmp_path):
    access.add_user(tmp_path / "people", "ann", "correct horse")
    with app.serve_page(service, access.Access(tmp_path / "people"), "127.0.0.1", 0) as address:
        page = opened(address=address)
        for password, outcome in (("wrong horse", "#login .alert:not(:empty)"), ("correct horse", "main:visible")):
            page.locator("#login [name=name]").fill("ann")
            page.locator("#login [name=password]").fill(password)
            page.keyboard.press("Enter")
            page.locator(outcome).wait_for()
        assert page.locator("#login").is_hidden()
        page.locator("#logout").click()
        page.locator("body[data-state=login]").wait_for()
        assert page.locator("main").is_hidden()
        page.close()


def test_all_is_done_by_the_keyboard(opened, clip):
    page = opened()
    page.on("filechooser", lambda chooser: None)  # from now on, and not by the time that a key is pressed

    def tab_to(what: str) -> None:
        for _ in range(60):
            if page.evaluate("what => document.activeElement.matches(what)", what):
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"no way to {what}")

    tab_to("#video")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files(clip)
    stage(page, "preview")
    tab_to("[name=background]")
    page.keyboard.press("ArrowDown")  # the next one, which is transparent
    assert page.locator("[value=webm]").is_checked()
    stage(page, "preview")
    tab_to("#go")
    page.keyboard.press("Enter")
    job(page, "done")
    assert "clip.mp4: Done" in page.locator("#told[aria-live]").inner_text()
    tab_to("#jobs .matte")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename == "clip-matte.webm"
    nameless = """[...document.querySelectorAll("button, input, select, a[href], canvas")].filter(one =>
        one.checkVisibility() && !one.ariaLabel && !one.labels?.[0]?.innerText.trim() && !one.innerText?.trim()
        ).map(one => one.outerHTML)"""
    assert page.evaluate(nameless) == []


def test_the_live_camera_and_its_recording(opened, server, asked, tmp_path):
    page = opened()
    page.get_by_role("button", name="Camera").click()
    choose(page, "background", "color")
    page.locator("#color").fill("#ff0000")
    page.locator("#camera-go").click()
    page.locator("#camera[data-state=running]").wait_for()
    sums = """(() => {
        const {width, height} = live, sums = [0, 0, 0, 0];
        live.getContext("2d").getImageData(0, 0, width, height).data.forEach((x, i) => (sums[i % 4] += x));
        return sums;
    })()"""
    red, _, blue, _ = page.evaluate(sums)
    page.locator("#record").click()
    page.locator("#camera[data-recording=true]").wait_for()
    page.locator("#color").fill("#0000ff")
    until(page, f"(([x, , z]) => x < {red} && z > {blue})({sums})")
    assert re.fullmatch(
        r"[\d.]+ pictures a second · \d+ ms behind · \d+ left out", page.locator("#figures").inner_text()
    )
    with page.expect_download() as download:
        page.locator("#record").click()
    assert download.value.suggested_filename == "camera.webm"
    download.value.save_as(tmp_path / "camera.webm")
    with av.open(str(tmp_path / "camera.webm")) as recording:
        frame = next(recording.decode(video=0))
    assert (frame.width, frame.height) == (640, 360)
    stranger = opened()
    stranger.get_by_role("button", name="Camera").click()
    stranger.locator("#camera-go").click()
    stranger.locator("#camera[data-state=waiting]").get_by_text("you are next").wait_for()
    page.locator("#camera-go").click()
    page.locator("#camera[data-state=off]").wait_for()
    stranger.locator("#camera[data-state=running]").wait_for()
    assert {urlparse(url).netloc for url in asked if not url.startswith("blob:")} == {server.host}


def test_a_network_that_wants_a_clean_plate_is_given_one(opened, clip, picture, tmp_path):
    """And until then the page asks for it. Its other files are matted with the same plate."""
    with (
        jobs.serving(small_network(), Limits(megabytes=1, seconds=10, side=200)) as service,
        app.serve_page(service, access.Access(), "127.0.0.1", 0) as address,
    ):
        page = opened(address=address)
        drop(page, clip)
        page.locator("#hint").get_by_text("Now choose a picture of the view without the person.").wait_for()
        assert page.locator("#modes").is_hidden()
        assert page.locator("#example").is_hidden()  # of which nobody has a plate
        drop(page, picture, where="clean")
        stage(page, "preview")
        page.locator("#go").click()
        assert read(save(job(page, "done"), "alpha", tmp_path)).shape == (COUNT, 48, 64, 3)
        page.locator("#align").check()
        stage(page, "failed").get_by_text("corners, too few to align it by").wait_for()
        page.close()


def test_others_are_not_asked_for_a_plate(opened):
    assert opened().locator("#plate").is_hidden()
