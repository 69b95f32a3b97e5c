"""The functions of the page as a program calls them, over HTTP; what the server refuses, and whom."""

import http.client
import json
from pathlib import Path

import pytest

from tests.rvm_jax.serve.servers import COUNT, Server, call, ended, listening, request, send, started

pytestmark = pytest.mark.slow

TOO_MUCH = "expected at most 1 MB in one upload, with its Content-Length"
TOO_LONG = "expected at most 1 MB in one request, with its Content-Length"


def test_a_file_over_the_limit_is_refused(server):
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


def test_a_name_is_no_place(server):
    """What is called by a path lies in the folder of the server all the same."""
    for name in ("../../../evil.mp4", "..\\..\\evil.mp4", str(server.temporary / "evil.mp4")):
        _, answer = send(server, b"no video", name)
        (path,) = json.loads(answer)
        assert "evil.mp4 cannot be read as a video" in call(server, "matte")(video=path)
        assert Path(path).resolve().is_relative_to(next(server.temporary.iterdir()))
    above = (server.temporary.parent, server.temporary, next(server.temporary.iterdir()))
    assert not [path for folder in above for path in folder.glob("*evil*")]
