"""The page as a person uses it, in a browser; and its functions as a program does, over HTTP."""

import http.client
import http.server
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlparse

import numpy as np
import pytest
from PIL import Image

from rvm_jax.video import sink
from rvm_jax.video.matting import matte_video
from tests.rvm_jax import videos
from tests.rvm_jax.conftest import write_tiny
from tests.rvm_jax.serve.test_jobs import sound
from tests.rvm_jax.video.test_matting import read

pytestmark = pytest.mark.slow

COUNT = 12
QUIET = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync"
# With x264's macroblock tree, one in a hundred videos of the same pictures has other bits on a busy machine.
SAME_BITS = ("x264-params", "mbtree=0")
PROGRAM = f"""
import sys
from rvm_jax.cli.main import main
from rvm_jax.video import sink

sink.FORMATS[".mp4"].options.update([{SAME_BITS}])
sys.exit(main(sys.argv[1:]))
"""
PATIENCE = 60_000  # milliseconds: programs are compiled


class Server(NamedTuple):
    address: str
    host: str
    temporary: Path
    process: "subprocess.Popen[str]"

    def files(self) -> list[Path]:
        """All that lies in its folder."""
        return [path for path in self.temporary.rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("weights"))


def started(network: Path, temporary: Path, *options: str) -> Server:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "serve", "--weights", str(network), "--port", str(port), *options],
        text=True,
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(temporary), "XLA_FLAGS": "--xla_backend_optimization_level=0"},
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line == f"serving on http://127.0.0.1:{port}/ (Ctrl-C ends it)\n"
    return Server(line.split()[2], f"127.0.0.1:{port}", temporary, process)


def ended(server: Server) -> None:
    """It leaves when asked to, and leaves nothing."""
    server.process.send_signal(signal.SIGINT)
    server.process.communicate(timeout=60)
    assert server.process.returncode == 0
    assert list(server.temporary.iterdir()) == []


@pytest.fixture(scope="module")
def server(network, tmp_path_factory) -> Iterator[Server]:
    limits = ["--max-megabytes", "1", "--max-seconds", "120", "--max-side", "200", "--max-waiting", "60"]
    server = started(network, tmp_path_factory.mktemp("server") / "tmp", *limits)
    try:
        yield server
        ended(server)
    finally:
        server.process.kill()
        server.process.wait()


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
def clip(tmp_path_factory) -> Path:
    return videos.write(tmp_path_factory.mktemp("clips") / "clip.mp4", videos.moving(COUNT), rate=10)


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
            page.locator("#behind").get_by_text(Path(background).stem).first.wait_for()
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
    end = time.monotonic() + 40
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
        ("../../../../tmp/evil.mp4", b"no video", "evil.mp4 cannot be read as a video"),
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
    assert not Path("/tmp/evil.mp4").exists()
    assert alerts == []
    page.locator("#video button[aria-label='Clear']").click()
    drop(page, clip)
    page.locator("#shown img.matte").wait_for()


TOO_MUCH = "expected at most 1 MB in one upload, and to be told how much it is"
TOO_LONG = "expected at most 1 MB in one request, and to be told how much it is"


def test_a_file_over_the_limit_is_refused(opened, server):
    page = opened()
    drop(page, {"name": "large.mp4", "mimeType": "video/mp4", "buffer": bytes(1_100_000)})
    page.get_by_text(re.compile("exceed the maximum allowed size")).first.wait_for()
    before = server.files()
    status, answer = send(server, bytes(1_100_000), "large.mp4")
    assert (status, "maximum allowed size" in answer) == (413, True)
    assert send(server, bytes(2_100_000), "large.mp4") == (413, TOO_MUCH)
    length = {"Transfer_Encoding": "chunked", "Content_Type": "multipart/form-data; boundary=x"}
    assert request(server, "POST", "/gradio_api/upload", None, **length) == (413, TOO_MUCH)
    assert request(server, "POST", "/gradio_api/upload", None, Content_Length="9", **length) == (413, TOO_MUCH)
    assert server.files() == before


def test_no_request_has_a_long_body(server):
    refuses_long_bodies(server)
    assert request(server, "POST", "/gradio_api/queue/join")[0] == 422  # it has none, which is not too much


def refuses_long_bodies(server: Server) -> None:
    kind = {"Content_Type": "application/json"}
    for path in ("/gradio_api/queue/join", "/gradio_api/call/v2/matte", "/login", "/none"):
        assert request(server, "POST", path, bytes(1_100_000), **kind) == (413, TOO_LONG)
        assert request(server, "POST", path, None, Transfer_Encoding="chunked", **kind) == (413, TOO_LONG)


def request(server: Server, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(server.host, timeout=120)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    answer = response.read().decode(errors="replace")
    connection.close()
    return response.status, answer


def send(server: Server, content: bytes, name: str, **headers: str) -> tuple[int, str]:
    mark = secrets.token_hex(8)
    head = f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    body = head.encode() + content + f"\r\n--{mark}--\r\n".encode()
    return request(
        server, "POST", "/gradio_api/upload", body, Content_Type=f"multipart/form-data; boundary={mark}", **headers
    )


def call(server: Server, function: str, **headers: str) -> Any:
    """What it answers in the end; for an error its message."""

    def ask(**values: Any) -> Any:
        path = f"/gradio_api/call/v2/{function}"
        body = json.dumps(values).encode()
        status, answer = request(server, "POST", path, body, Content_Type="application/json", **headers)
        assert status == 200, answer
        _, answer = request(server, "GET", f"{path}/{json.loads(answer)['event_id']}", **headers)
        event, data = answer.strip().split("\n\n")[-1].split("\n")
        told = json.loads(data.removeprefix("data: "))
        return told["error"] if event == "event: error" else told[0]

    return ask


def test_fifty_requests_in_a_row(server, clip):
    _, answer = send(server, clip.read_bytes(), "clip.mp4")
    (path,) = json.loads(answer)
    open_files = len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))
    for number in range(50):
        told = call(server, "matte")(video=path, background=("green", "blur")[number % 2])
        assert (told["state"], told["done"]) == ("done", COUNT)
        assert request(server, "GET", told["alpha"])[0] == 200
        assert call(server, "cancel")(job=told["job"]) is True
        assert request(server, "GET", told["alpha"])[0] == 403
        assert told["job"] not in "".join(map(str, server.files()))
    assert len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())) < open_files + 20


def test_a_look_over_http(server, clip):
    _, answer = send(server, clip.read_bytes(), "clip.mp4")
    told = call(server, "preview")(video=json.loads(answer)[0])
    assert told["state"] == "done"
    assert request(server, "GET", told["view"])[1][1:4] == "PNG"


class listening:  # noqa: N801 — used like a function
    """An address, and what was heard there."""

    def __enter__(self) -> tuple[str, list[str]]:
        heard: list[str] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                heard.append(self.path)
                self.send_error(404)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        return f"http://127.0.0.1:{self.server.server_port}/clip.mp4", heard

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def test_the_server_fetches_nothing_and_hands_out_only_its_own(server, clip):
    with listening() as (address, heard):
        file = {"path": address, "meta": {"_type": "gradio.FileData"}}
        assert call(server, "matte")(video=file) == "an address was given: expected an uploaded file"
        assert "is not here: send it" in call(server, "matte")(video=address)
        playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}\n#EXT-X-ENDLIST\n".encode()
        _, answer = send(server, playlist, "list.mp4")
        assert "cannot be read as a video" in call(server, "matte")(video=json.loads(answer)[0])
        assert request(server, "GET", f"/gradio_api/file={address}") == (403, "this server does not do that")
        assert request(server, "GET", f"/gradio_api/proxy={address}")[0] == 403
    assert heard == []
    assert "is not here: send it" in call(server, "matte")(video=str(clip))
    assert request(server, "GET", f"/gradio_api/file={clip}")[0] == 403
    assert call(server, "matte")() == "no video was given: drop one first"


def test_who_is_not_named_is_not_let_in(network, tmp_path, clip):
    (tmp_path / "people").write_text("ann:secret:word\n")
    server = started(network, tmp_path / "tmp", "--auth", str(tmp_path / "people"))
    try:
        assert send(server, clip.read_bytes(), "clip.mp4")[0] == 401
        refuses_long_bodies(server)
        assert request(server, "POST", "/gradio_api/call/v2/matte", b"{}", Content_Type="application/json")[0] == 401
        form = {"Content_Type": "application/x-www-form-urlencoded"}
        assert request(server, "POST", "/login", b"username=ann&password=wrong", **form)[0] == 400
        connection = http.client.HTTPConnection(server.host)
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/login", b"username=ann&password=secret%3Aword", kind)
        response = connection.getresponse()
        cookies = [value.split(";")[0] for name, value in response.getheaders() if name.lower() == "set-cookie"]
        connection.close()
        cookie = "; ".join(cookies)
        _, answer = send(server, clip.read_bytes(), "clip.mp4", Cookie=cookie)
        told = call(server, "matte", Cookie=cookie)(video=json.loads(answer)[0])
        assert told["state"] == "done"
        assert request(server, "GET", told["matte"])[0] == 401
        assert request(server, "GET", told["matte"], Cookie=cookie)[0] == 200
        ended(server)
    finally:
        server.process.kill()
        server.process.wait()
