"""Who is let in, over plain HTTP: people with passwords, programs with tokens, and whom a proxy names."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rvm_jax.serve import access, app, jobs
from rvm_jax.serve.access import Access
from tests.rvm_jax.serve.servers import LIMITS, ask, cookie, still_serves, upload, websocket


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("people") / "people"
    for name in ("ann", "bob"):
        access.add_user(path, name, f"secret of {name}")
    return path


@pytest.fixture
def members(matte, people) -> Iterator[str]:
    """The address of one on which people log in."""
    with jobs.serving(matte, LIMITS) as service, app.serve_page(service, Access(people), "127.0.0.1", 0) as address:
        yield address


def log_in(address: str, name: str, password: str | None = None, **headers: str):
    body = {"name": name, "password": password or f"secret of {name}"}
    return ask(address, "POST", "/v1/session", body, **headers)


def test_who_is_not_named_is_not_let_in(members):
    for path in ("/", "/jobs/x", "/static/index.html", "/v1/settings", "/healthz", "/v1/openapi.json"):
        answer = ask(members, "GET", path)
        assert (answer.status, answer.headers["Set-Cookie"]) == (200, None)
    for method, path in (
        ("GET", "/v1/jobs"),
        ("GET", "/v1/jobs/x"),
        ("POST", "/v1/jobs"),
        ("POST", "/v1/uploads"),
        ("PATCH", "/v1/uploads/x"),
        ("GET", "/metrics"),
        ("GET", "/static/../v1/jobs"),
        ("GET", "/jobs/../v1/jobs"),
    ):
        assert ask(members, method, path).status in (401, 404)
    assert ask(members, "GET", "/v1/jobs", Cookie="rvm_session=x.y").status == 401
    assert ask(members, "GET", "/v1/jobs", Authorization="Bearer rvm_x").status == 401
    assert websocket(members).startswith(b"HTTP/1.1 403 ")


def test_people_log_in_and_out_and_see_only_their_own(members, people, video):
    answer = log_in(members, "ann")
    assert answer.status == 204
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(answer.headers["Set-Cookie"].split("; "))
    assert "Secure" not in answer.headers["Set-Cookie"]
    assert "Secure" in log_in(members, "ann", X_Forwarded_Proto="https").headers["Set-Cookie"]
    ann, bob = cookie(answer), cookie(log_in(members, "bob"))
    token = access.add_token(people, "ann")
    settings = ask(members, "GET", "/v1/settings", Cookie=ann).json
    assert (settings["person"], settings["login"]) == ("ann", True)
    sent = upload(members, "talk.mp4", video, Cookie=ann)
    job = ask(members, "POST", "/v1/jobs", {"video": sent}, Authorization=f"Bearer {token}").json
    assert ask(members, "GET", f"/v1/jobs/{job['id']}", Cookie=ann).status == 200
    assert ask(members, "GET", f"/v1/jobs/{job['id']}", Cookie=bob).status == 404
    assert ask(members, "DELETE", "/v1/session", Cookie=ann).status == 204
    assert ask(members, "GET", "/v1/jobs", Cookie=ann).status == 401
    assert ask(members, "GET", "/v1/jobs", Cookie=bob).status == 200
    for body in (b"", b"[]", b"{", b"\xff"):
        assert ask(members, "POST", "/v1/session", body).status == 400


def test_a_cookie_of_somebody_else_does_not_hide_the_session(members):
    ann = cookie(log_in(members, "ann"))
    for other in ('prefs={"x":1}', "a,b=c d", "=", "none"):
        assert ask(members, "GET", "/v1/jobs", Cookie=f"{other}; {ann}; {other}").status == 200


def test_a_password_with_half_a_character_is_wrong(members):
    assert log_in(members, "ann", "secret of \ud800").status == 401


def test_a_file_of_people_that_cannot_be_read_any_more_is_told(members, people, capsys):
    ann = cookie(log_in(members, "ann"))
    people.chmod(0o604)
    try:
        answers = [ask(members, "GET", "/v1/jobs", Cookie=ann), log_in(members, "ann")]
        answers += [ask(members, "GET", "/v1/jobs", Authorization="Bearer rvm_x")]
    finally:
        people.chmod(0o600)
    message = "it cannot be told now who may use this server: tell its owner"
    assert [(answer.status, answer.error) for answer in answers] == [(503, message)] * 3
    assert capsys.readouterr().err.count(f"chmod 600 {people}\n") == 3
    assert ask(members, "GET", "/v1/jobs", Cookie=ann).status == 200


def test_of_two_hundred_wrong_passwords_few_are_looked_at(members, monkeypatch):
    looked = []
    check = access.check_password
    monkeypatch.setattr(access, "check_password", lambda *given: looked.append(given[1]) or check(*given))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: log_in(members, "ann", f"guess {number}"), range(200)))
    assert {answer.status for answer in answers} == {401, 429}
    assert len(looked) < 12
    late = log_in(members, "ann")
    assert (late.status, int(late.headers["Retry-After"]) > 0, "Set-Cookie" in late.headers) == (429, True, False)
    assert still_serves(members)


def test_a_proxy_tells_who_it_is(matte):
    allowed = Access(proxy_header="X-Remote-User", hosts=("rvm.example.org",))
    with jobs.serving(matte, LIMITS) as service, app.serve_page(service, allowed, "127.0.0.1", 0) as address:
        host = {"Host": "rvm.example.org"}
        assert ask(address, "GET", "/v1/settings", X_Remote_User="ann", **host).json["person"] == "ann"
        assert ask(address, "GET", "/v1/jobs", X_Remote_User="ann", **host).status == 200
        assert ask(address, "GET", "/v1/jobs", **host).status == 401
        assert ask(address, "GET", "/v1/jobs", X_Remote_User="ann, bob", **host).status == 401
        assert ask(address, "GET", "/v1/jobs", X_Remote_User="ann", Host="evil.example").status == 403
        sent = ask(address, "POST", "/v1/uploads", {"name": "a", "bytes": 1}, X_Remote_User="ann", **host).json["id"]
        assert ask(address, "GET", f"/v1/uploads/{sent}", X_Remote_User="bob", **host).status == 404
