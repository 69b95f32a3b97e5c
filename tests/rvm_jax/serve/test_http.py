"""The server over plain HTTP: what is answered to whom, what is refused, and that it goes on serving."""

import base64
import json
import re
import resource
import select
import socket
import struct
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from rvm_jax.serve import app, guard, jobs, requests, uploads
from rvm_jax.serve.access import Access
from rvm_jax.serve.uploads import Limits
from tests.rvm_jax.serve.servers import LIMITS, ask, cookie, form, listening, still_serves, upload, websocket


@pytest.fixture(scope="module")
def service(matte):
    with jobs.serving(matte, LIMITS) as service:
        yield service


@pytest.fixture(scope="module")
def page(service) -> Iterator[str]:
    """The address of a server that takes everybody of this machine as a guest."""
    with app.serve_page(service, Access(), "127.0.0.1", 0) as address:
        yield address


def test_the_description_names_every_route_and_no_other(page):
    described = ask(page, "GET", "/v1/openapi.json").json["paths"]
    named = {(path, method.upper()) for path, methods in described.items() for method in methods}
    routes = app.build(SimpleNamespace(), Access()).routes
    served = {(route.path, method) for route in routes for method in getattr(route, "methods", None) or ()}
    others = {("/", "GET"), ("/jobs/{job}", "GET")}
    assert {one for one in served if one[1] != "HEAD"} == named | others
    assert {route.path for route in routes} - {path for path, _ in served} == {"/static", "/v1/live"}


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/app.py",
        "/static/static/index.html",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static//etc/passwd",
        "/static/",
        "/static/nothing",
        "//v1/jobs",
        "/v1/jobs/",
        "/v1//jobs",
        "/v1/jobs/../settings",
        "/v1/jobs/..%2f..%2fetc",
        "/v1/jobs/x/../../uploads",
        "/v1/uploads/../jobs",
        "/V1/jobs",
        "/docs",
        "/gradio_api/file=http://127.0.0.1/",
        "/%00",
        "/v1/jobs/%0d%0aSet-Cookie:x=1",
    ],
)
def test_aliases_and_traversal_lead_nowhere(page, path):
    answer = ask(page, "GET", path)
    assert answer.status == 404
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Set-Cookie" not in answer.headers


def test_browsers_are_told_to_ask_nobody_else_and_to_show_it_in_no_frame(page):
    for path in ("/", "/jobs/any", "/static/index.html", "/v1/settings", "/v1/none"):
        headers = ask(page, "GET", path).headers
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'self'; ")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in headers
    assert ask(page, "GET", "/jobs/any").body == ask(page, "GET", "/").body


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "", "@"],
)
def test_a_foreign_name_of_this_machine_is_refused(page, host):
    """As DNS rebinding has it: a page of that host asks what it takes for its own server."""
    for method, path in (("GET", "/"), ("GET", "/v1/jobs"), ("POST", "/v1/uploads")):
        answer = ask(page, method, path, {"name": "a.mp4", "bytes": 1} if method == "POST" else None, Host=host)
        assert (answer.status, "is not called" in answer.error) == (403, True)


def test_names_of_this_machine_and_those_that_are_allowed_are_taken(page, service):
    port = urlsplit(page).port
    for host in ("localhost", f"LOCALHOST:{port}", f"[::1]:{port}", "[::1]", "127.8.0.1"):
        assert ask(page, "GET", "/v1/jobs", Host=host).status == 200
    with app.serve_page(service_like(service), Access(hosts=("rvm.example.org",)), "127.0.0.1", 0) as address:
        answers = [ask(address, "GET", "/", Host=host).status for host in ("rvm.example.org", "x.rvm.example.org")]
    assert answers == [200, 403]


def service_like(service) -> jobs.Service:
    """Another one of the same folder, which a page may close."""
    return jobs.Service(service.limits, service.folder, matte=service.matte)


ORIGINS = ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost.evil.example", "file://", ""]


@pytest.mark.parametrize("origin", ORIGINS)
def test_what_a_page_of_somebody_else_sends_is_refused(page, origin):
    for method, path in (
        ("POST", "/v1/uploads"),
        ("POST", "/v1/jobs"),
        ("DELETE", "/v1/jobs/x"),
        ("PATCH", "/v1/uploads/x"),
    ):
        answer = ask(page, method, path, b"{}", Origin=origin)
        assert (answer.status, answer.error) == (
            403,
            "a page of another host asked for this: open this server's own page",
        )
    assert websocket(page, Origin=origin).startswith(b"HTTP/1.1 403 ")


def test_the_pages_own_origin_is_taken(page):
    host = urlsplit(page).netloc
    assert ask(page, "POST", "/v1/uploads", {"name": "a", "bytes": 1}, Origin=f"http://{host}").status == 201
    assert ask(page, "POST", "/v1/uploads", {"name": "a", "bytes": 1}, Sec_Fetch_Site="cross-site").status == 403
    assert websocket(page, Origin=f"http://{host}").startswith(b"HTTP/1.1 101 ")


def test_a_guest_sees_only_their_own(page, video):
    ann, bob = (cookie(ask(page, "GET", "/")) for _ in range(2))
    sent = upload(page, "talk.mp4", video, Cookie=ann)
    for method in ("GET", "PATCH", "DELETE"):
        assert ask(page, method, f"/v1/uploads/{sent}", Cookie=bob, Upload_Offset="0").status == 404
    assert ask(page, "POST", "/v1/jobs", {"video": sent}, Cookie=bob).status == 404
    job = ask(page, "POST", "/v1/jobs", {"video": sent}, Cookie=ann).json
    for who in (bob, "", f"{ann}x"):
        for path in ("", "/matte", "/source", "/events"):
            assert ask(page, "GET", f"/v1/jobs/{job['id']}{path}", Cookie=who).status == 404
        assert ask(page, "DELETE", f"/v1/jobs/{job['id']}", Cookie=who).status == 404
        assert ask(page, "GET", "/v1/jobs", Cookie=who).json == {"jobs": []}
    assert ask(page, "GET", f"/v1/jobs/{job['id']}/matte?wait=1", Cookie=ann).status == 200
    assert [one["id"] for one in ask(page, "GET", "/v1/jobs", Cookie=ann).json["jobs"]] == [job["id"]]
    assert ask(page, "DELETE", f"/v1/jobs/{job['id']}", Cookie=ann).status == 204
    assert ask(page, "GET", f"/v1/jobs/{job['id']}", Cookie=ann).status == 404


def test_a_job_from_the_form_to_its_files(page, service, video):
    before = set(service.uploads)
    body, kind = form(video=("talk.mp4", video), background="#1e90ff", format="webm", preview="false")
    answer = ask(page, "POST", "/v1/jobs", body, Content_Type=kind)
    assert answer.status == 201
    where = answer.headers["Location"]
    told = ask(page, "GET", f"{where}/events").body.decode().strip().split("\n\n")
    states = [json.loads(one.removeprefix("data: ")) for one in told]
    assert [states[-1][name] for name in ("state", "frames", "error", "width", "height")] == ["done", 5, None, 64, 48]
    assert {name: file["type"] for name, file in states[-1]["results"].items()} == {
        "matte": "video/webm",
        "preview": "video/mp4",
        "alpha": "video/mp4",
    }
    matte = ask(page, "GET", f"{where}/matte?download=1")
    assert matte.headers["Content-Disposition"] == 'attachment; filename="talk-matte.webm"'
    assert len(matte.body) == states[-1]["results"]["matte"]["bytes"]
    part = ask(page, "GET", f"{where}/matte", Range="bytes=10-19")
    assert (part.status, part.body) == (206, matte.body[10:20])
    assert part.headers["Content-Range"] == f"bytes 10-19/{len(matte.body)}"
    assert part.headers["Content-Disposition"].startswith("inline")
    assert ask(page, "HEAD", f"{where}/alpha").headers["Content-Type"] == "video/mp4"
    assert ask(page, "GET", f"{where}/source").body == video
    assert ask(page, "GET", f"{where}/other").status == 404
    assert set(service.uploads) == before


def test_a_preview_is_a_picture_and_in_no_list(page, video):
    who = cookie(ask(page, "GET", "/"))
    sent = upload(page, "talk.mp4", video, Cookie=who)
    job = ask(page, "POST", "/v1/jobs", {"video": sent, "preview": True}, Cookie=who).json
    assert ask(page, "GET", f"/v1/jobs/{job['id']}/preview?wait=1", Cookie=who).body[:3] == b"\xff\xd8\xff"
    assert ask(page, "GET", f"/v1/jobs/{job['id']}/alpha", Cookie=who).body[1:4] == b"PNG"
    assert ask(page, "GET", "/v1/jobs", Cookie=who).json == {"jobs": []}


def test_an_upload_goes_on_where_the_line_broke(page, video):
    begun = ask(page, "POST", "/v1/uploads", {"name": "talk.mp4", "bytes": len(video)}).json
    where, half = f"/v1/uploads/{begun['id']}", len(video) // 2
    assert (begun["offset"], begun["piece"]) == (0, guard.PIECE_BYTES)
    host = urlsplit(page)
    with socket.create_connection((host.hostname, host.port)) as line:
        head = (
            f"PATCH {where} HTTP/1.1\r\nHost: {host.netloc}\r\nUpload-Offset: 0\r\nContent-Length: {len(video)}\r\n\r\n"
        )
        line.sendall(head.encode() + video[:half])
        while ask(page, "GET", where).json["offset"] < half:
            pass
    again = ask(page, "PATCH", where, video, Upload_Offset="0")
    while again.status == 409 and "offset" not in again.json:  # the server has not seen yet that the line broke
        again = ask(page, "PATCH", where, video, Upload_Offset="0")
    assert (again.status, again.json["offset"]) == (409, half)
    assert ask(page, "PATCH", where, video[half:], Upload_Offset=str(half)).json == {"offset": len(video)}
    assert ask(page, "POST", "/v1/jobs", {"video": begun["id"]}).status == 201


def test_files_of_others_are_never_fetched_or_followed(page, tmp_path):
    with listening() as (address, heard):
        playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}\n#EXT-X-ENDLIST\n".encode()
        body, kind = form(video=("list.mp4", playlist))
        assert "cannot be read as a video" in ask(page, "POST", "/v1/jobs", body, Content_Type=kind).error
        assert ask(page, "POST", "/v1/jobs", {"video": address}).status == 404
        for background in (address, "/etc/hostname", "virtual", "-"):
            sent = upload(page, "a.mp4", b"none")
            assert ask(page, "POST", "/v1/jobs", {"video": sent, "background": background}).status == 400
    assert heard == []


HTML = b"<!doctype html><script>alert(1)</script>"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("page.html", HTML),
        ("page.mp4", HTML),
        ("page.png", HTML),
        ("me.svg", b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'),
        ("list.m3u8", b"#EXTM3U\n/etc/passwd\n"),
        (
            "bomb.png",
            b"\x89PNG\r\n\x1a\n"
            + b"".join(
                struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
                for kind, data in (
                    (b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)),
                    (b"IDAT", zlib.compress(bytes(100_000))),
                    (b"IEND", b""),
                )
            ),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_video_or_a_bomb_is_refused_and_leaves_nothing(page, service, name, content):
    before = set(service.folder.iterdir())
    body, kind = form(video=(name, content))
    answer = ask(page, "POST", "/v1/jobs", body, Content_Type=kind)
    assert answer.status == 400
    assert answer.error.startswith(name)
    assert set(service.folder.iterdir()) == before
    assert still_serves(page)


def test_what_is_served_back_is_only_ever_a_video_or_a_picture(page, video):
    """A video that calls itself a page, and holds one after its end."""
    body, kind = form(video=("page.html", video + HTML))
    job = ask(page, "POST", "/v1/jobs", body, Content_Type=kind).json
    assert job["source"] is None
    assert ask(page, "GET", f"/v1/jobs/{job['id']}/source").status == 404
    matte = ask(page, "GET", f"/v1/jobs/{job['id']}/matte?wait=1")
    assert (matte.headers["Content-Type"], matte.headers["X-Content-Type-Options"]) == ("video/mp4", "nosniff")


@pytest.mark.parametrize(
    "name", ['a"; filename="b.html', "a\tb\x01.mp4", "../../../evil.mp4", "ü😀.mp4", "\ud800.mp4", "x" * 300 + ".mp4"]
)
def test_a_name_is_no_header_and_no_place(page, video, name):
    begun = ask(page, "POST", "/v1/uploads", {"name": f"{name}\r\nSet-Cookie: x=1", "bytes": len(video)})
    assert ask(page, "PATCH", f"/v1/uploads/{begun.json['id']}", video, Upload_Offset="0").status == 200
    job = ask(page, "POST", "/v1/jobs", {"video": begun.json["id"]}).json
    answer = ask(page, "GET", f"/v1/jobs/{job['id']}/matte?wait=1&download=1")
    assert answer.status == 200
    assert "Set-Cookie" not in answer.headers
    disposition = answer.headers["Content-Disposition"]
    assert re.fullmatch(r"attachment; filename(=\"[\w.:=-]+\"|\*=utf-8\'\'[\w.%~-]+)", disposition)
    assert len(job["name"]) <= 61
    assert not re.search(r"[/\\\x00-\x1f]", job["name"])


def test_bodies_have_a_length_that_is_not_too_long(page):
    for method, path in (("POST", "/v1/uploads"), ("POST", "/v1/jobs"), ("POST", "/v1/session"), ("POST", "/none")):
        answer = ask(page, method, path, bytes(guard.BODY_BYTES + 1))
        assert (answer.status, "expected at most 65536" in answer.error) == (413, True)
        assert ask(page, method, path, Transfer_Encoding="chunked").status == 411
    assert ask(page, "PATCH", "/v1/uploads/x", bytes(guard.PIECE_BYTES + 1), Upload_Offset="0").status == 413
    body, kind = form(video=("a.mp4", bytes(2_200_000)))
    assert ask(page, "POST", "/v1/jobs", body, Content_Type=kind).status == 413
    body, kind = form(video=("a.mp4", bytes(1_500_000)))
    assert "expected at most 1 MB" in ask(page, "POST", "/v1/jobs", body, Content_Type=kind).error
    answer = ask(page, "POST", "/v1/uploads", {"name": "large.mp4", "bytes": 2_000_000})
    assert (answer.status, answer.error[:19]) == (413, "large.mp4 has 2 MB:")
    for size in (0, -1, "1", None, True, 1.5):
        assert ask(page, "POST", "/v1/uploads", {"name": "a", "bytes": size}).status == 400
    assert ask(page, "GET", "/", X="x" * 40_000).status in (400, 431)
    assert still_serves(page)


def test_json_that_is_too_deep_or_too_large_is_no_json(page):
    deep = base64.urlsafe_b64encode(b"[" * 9000).decode()
    assert ask(page, "GET", "/v1/jobs", Cookie=f"{guard.COOKIE}={deep}").json == {"jobs": []}
    for path in ("/v1/uploads", "/v1/jobs"):
        answer = ask(page, "POST", path, b"[" * 60_000)
        assert (answer.status, answer.error[:30]) == (400, "the request is no JSON object:")
    for digits in (4000, 5000):
        answer = ask(page, "POST", "/v1/uploads", b'{"name": "a", "bytes": %s}' % (b"9" * digits))
        assert answer.status == 400
        assert len(answer.error) < 100


def test_a_body_that_does_not_come_is_not_waited_for(page, monkeypatch):
    monkeypatch.setattr(guard, "SECONDS", 0.1)
    host = urlsplit(page)
    with socket.create_connection((host.hostname, host.port), timeout=60) as line:
        line.sendall(f"POST /v1/uploads HTTP/1.1\r\nHost: {host.netloc}\r\nContent-Length: 9\r\n\r\n{{".encode())
        assert line.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_a_header_that_does_not_end_is_not_waited_for(page, monkeypatch):
    monkeypatch.setattr(guard, "HEADER_SECONDS", 0.1)
    host = urlsplit(page)
    with socket.create_connection((host.hostname, host.port), timeout=60) as line:
        line.sendall(b"GET / HTTP/1.1\r\nX: ")
        assert gone(line)


def gone(line: socket.socket) -> bool:
    try:
        return line.recv(1000) == b""
    except ConnectionResetError:
        return True


def test_who_does_not_read_is_not_waited_for(matte, video, monkeypatch):
    large = video + bytes(16_000_000)
    with (
        jobs.serving(matte, Limits(megabytes=20)) as service,
        app.serve_page(service, Access(), "127.0.0.1", 0) as address,
    ):
        body, kind = form(video=("a.mp4", large), preview="true")
        job = ask(address, "POST", "/v1/jobs", body, Content_Type=kind).json
        monkeypatch.setattr(guard, "SECONDS", 0.1)
        host = urlsplit(address)
        with socket.socket() as line:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 10_000)
            line.connect((host.hostname, host.port))
            line.sendall(f"GET /v1/jobs/{job['id']}/source HTTP/1.1\r\nHost: {host.netloc}\r\n\r\n".encode())
            ended = select.poll()
            ended.register(line, 0)  # only errors
            assert ended.poll(60_000)
        assert still_serves(address)


def test_a_thousand_idle_connections_make_room_for_others(page):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2500:
        pytest.skip("this machine lets a process open few files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2500), hard))
    host = urlsplit(page)
    lines = []
    try:
        for _ in range(1000):
            lines.append(socket.create_connection((host.hostname, host.port), timeout=60))
            lines[-1].sendall(b"GET / HTTP/1.1\r\n")
        assert still_serves(page)
        assert len(guard.Protocol.idle) <= guard.MOST_IDLE
        assert all(gone(line) for line in lines[: 1000 - guard.MOST_IDLE - 1])
    finally:
        for line in lines:
            line.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_one_address_may_have_so_many_requests_open(page, service, monkeypatch):
    monkeypatch.setattr(guard, "MOST_AT_ONCE", 1)
    host = urlsplit(page)
    with socket.create_connection((host.hostname, host.port), timeout=60) as line:
        line.sendall(f"POST /v1/uploads HTTP/1.1\r\nHost: {host.netloc}\r\nContent-Length: 9\r\n\r\n".encode())
        while (answer := ask(page, "GET", "/healthz")).status == 200:
            pass
        assert (answer.status, answer.error[:14]) == (429, "1 requests of ")
        line.sendall(b"not JSON!")
        assert line.recv(1000).startswith(b"HTTP/1.1 400 ")
    assert still_serves(page)


def test_many_uploads_at_once_do_not_fill_a_small_disk(page, service, monkeypatch):
    for one in list(service.uploads.values()):
        uploads.discard(service, one)
    free = uploads.RESERVE + 5_500_000
    monkeypatch.setattr(uploads.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))

    def begin(number: int) -> int:
        return ask(page, "POST", "/v1/uploads", {"name": f"{number}.mp4", "bytes": 1_000_000}).status

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(begin, range(100)))
    assert (answers.count(201), answers.count(507)) == (5, 95)
    body, kind = form(video=("a.mp4", bytes(900_000)))
    assert ask(page, "POST", "/v1/jobs", body, Content_Type=kind).status == 507
    free = uploads.RESERVE - 1  # something else has filled it
    (first, *_) = service.uploads
    answer = ask(page, "PATCH", f"/v1/uploads/{first}", bytes(100_000), Upload_Offset="0")
    assert (answer.status, answer.error) == (507, "the disk of this server is full: try again later")
    for one in list(service.uploads.values()):
        uploads.discard(service, one)
    assert service.held == 0
    assert still_serves(page)


def test_numbers_for_prometheus(page):
    text = ask(page, "GET", "/metrics").body.decode()
    values = dict(re.findall(r"^(rvm_\w+|process_\w+)(?:{.*})? (\d+(?:\.\d+)?)$", text, re.M))
    assert len(text.splitlines()) == 10
    assert set(values) >= {"rvm_jobs_total", "rvm_frames_total", "rvm_jobs_waiting", "process_resident_memory_bytes"}


def test_who_follows_a_job_is_let_go_when_the_server_ends(matte, video, monkeypatch):
    opened = threading.Event()
    monkeypatch.setattr(jobs.requests, "make_matte", lambda *_: opened.wait(60) and {})
    with jobs.serving(matte, LIMITS) as service:
        with app.serve_page(service, Access(), "127.0.0.1", 0) as address:
            job = ask(address, "POST", "/v1/jobs", {"video": upload(address, "a.mp4", video)}).json
            host = urlsplit(address)
            line = socket.create_connection((host.hostname, host.port), timeout=60)
            line.sendall(f"GET /v1/jobs/{job['id']}/events HTTP/1.1\r\nHost: {host.netloc}\r\n\r\n".encode())
            told = b""
            while b"data: " not in told:
                told += line.recv(10_000)
        with line:
            while piece := line.recv(10_000):
                told += piece
        assert told.endswith(b"0\r\n\r\n")  # in whole
        opened.set()


def test_what_nobody_can_wait_for_is_refused_before_anything_is_done(page, video):
    body, kind = form(video=("clip.mp4", video))
    answer = ask(page, "POST", "/v1/jobs?wait=nothere", body, Content_Type=kind)
    assert (answer.status, answer.error) == (400, "wait=nothere: expected one of matte, alpha, preview")


@pytest.mark.parametrize(("given", "background"), [({}, "green"), ({"format": "webm"}, "transparent")])
def test_only_an_mp4_is_green_unless_it_is_asked_for(given, background):
    upload = object.__new__(uploads.Upload)
    assert requests.parse({"video": upload, **given}, lambda name: upload).background == background
