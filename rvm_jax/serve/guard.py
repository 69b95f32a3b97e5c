"""The guard before all routes: Host, Origin, who it is, and bounds of every request's size and time."""

import asyncio
import ipaddress
import json
import math
import shutil
import socket
import struct
from collections import Counter
from typing import Any, ClassVar

from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from rvm_jax.serve import access, uploads
from rvm_jax.serve.access import Access
from rvm_jax.serve.uploads import Refused, Store

COOKIE = "rvm_session"
HEADERS = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' blob:; media-src 'self' blob:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
PUBLIC = ("/", "/healthz", "/v1/openapi.json", "/v1/session", "/v1/settings")
PUBLIC_BELOW = ("/static/", "/jobs/")

HEADER_BYTES = 2**14
BODY_BYTES = 2**16
"""What a request may send that is no file."""
PIECE_BYTES = 4 * 2**20
SECONDS, SLOWEST = 30.0, 20_000
"""Within which a request has to be sent: so many seconds, and one more for each so many bytes."""

MOST_AT_ONCE = 100
"""How many requests of one person, or of one address where nobody logs in, may be open."""
HEADER_SECONDS = 10
MOST_IDLE = 256
"""How many connections may be open that have not asked for anything."""


class Guard:
    def __init__(self, app: ASGIApp, access: Access, store: Store):
        self.app, self.access, self.store = app, access, store
        self.open: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        started = False
        key = scope["client"][0] if scope.get("client") else ""

        async def sent(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                extra = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        self.open[key] += 1
        try:
            if sum(len(name) + len(value) for name, value in scope["headers"]) > HEADER_BYTES:
                raise Refused(f"the header is too long: expected at most {HEADER_BYTES} bytes", 431)
            headers = _headers(scope)
            check_host(self.access, headers, scope)
            person, path = identify(self.access, headers), scope["path"]
            if person is not None and not self.access.open:
                self.open[key] -= 1
                key = person
                self.open[key] += 1
            if self.open[key] > MOST_AT_ONCE:
                raise Refused(f"{MOST_AT_ONCE} requests of yours are open already: wait for some of them", 429)
            if person is None and path not in PUBLIC and not path.startswith(PUBLIC_BELOW):
                raise Refused("log in first", 401)
            scope.setdefault("state", {})["person"] = person
            bounded = self.bounded(scope, headers, receive) if scope["type"] == "http" else receive
            await self.app(scope, bounded, sent)
        except (Refused, access.UnreadableError) as error:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008, "reason": str(error)})
            elif not started:
                await answer(sent, error)
        finally:
            self.open[key] -= 1
            self.open += Counter()  # leaves out those at 0

    def bounded(self, scope: Scope, headers: dict[str, str], receive: Receive) -> Receive:
        """What receives a body of an announced length that is not too long, in time, while there is room for it."""
        most = longest_body(self.store, scope, headers)
        if "transfer-encoding" in headers:
            raise Refused("expected a Content-Length: send the body in whole", 411)
        length = int(headers.get("content-length", "0"))
        if length > most:
            raise Refused(f"{length} bytes were announced: expected at most {most} in this request", 413)
        loop = asyncio.get_running_loop()
        end = loop.time() + SECONDS + length / SLOWEST
        complete = False

        async def bounded() -> Message:
            nonlocal complete
            if complete:  # what comes now is only that the client has gone
                return await receive()
            try:
                async with asyncio.timeout_at(min(end, loop.time() + SECONDS)):
                    message = await receive()
            except TimeoutError:
                raise Refused("this took too long: send it again, faster", 408) from None
            complete = not message.get("more_body")
            if length > BODY_BYTES and shutil.disk_usage(self.store.folder).free < uploads.RESERVE:
                raise Refused("the disk of this server is full: try again later", 507)
            return message

        return bounded


def longest_body(store: Store, scope: Scope, headers: dict[str, str]) -> int:
    form = headers.get("content-type", "").startswith("multipart/form-data")
    if scope["path"] == "/v1/jobs" and scope["method"] == "POST" and form:
        return BODY_BYTES + 2 * math.ceil(store.limits.megabytes * 1e6)  # a video and a background
    if scope["path"].startswith("/v1/uploads/") and scope["method"] == "PATCH":
        return PIECE_BYTES
    return BODY_BYTES


def _headers(scope: Scope) -> dict[str, str]:
    """By their names in small letters; of one that comes twice both, which is nobody's name."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        name = name.decode("latin-1")
        before = f"{found[name]}{'; ' if name == 'cookie' else ', '}" if name in found else ""
        found[name] = before + value.decode("latin-1")
    return found


def check_host(access: Access, headers: dict[str, str], scope: Scope) -> None:
    """Refuse what a page of somebody else asks for in a browser: by its Origin, or by a name that it gave to us."""
    host = headers.get("host", "").lower()
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    known = is_this_machine(name) or name in access.hosts or (access.file is not None and not access.hosts)
    if not known:
        raise Refused(f"this server is not called {uploads.display_name(name)}: see --allow-host", 403)
    reading = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
    origin = headers.get("origin")
    if reading or (origin is None and headers.get("sec-fetch-site", "none") in ("none", "same-origin")):
        return
    if origin is None or _place(origin.partition("://")[2]) != _place(host):
        raise Refused("a page of another host asked for this: open this server's own page", 403)


def _place(host: str) -> str:
    return host.lower().removesuffix(":80").removesuffix(":443")


def is_this_machine(name: str) -> bool:
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return name == "localhost"


def identify(allowed: Access, headers: dict[str, str]) -> str | None:
    """Who it is. Guests without a cookie, which are programs, are nobody in particular; None is not let in."""
    if allowed.proxy_header is not None:
        name = headers.get(allowed.proxy_header.lower(), "")
        return f"person:{name}" if access.NAME.fullmatch(name) else None
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and not allowed.open:
        return access.token_person(allowed, token.strip())
    person = access.session_person(allowed, cookie_parser(headers.get("cookie", "")).get(COOKIE, ""))
    return "" if person is None and allowed.open else person


async def answer(send: Send, error: Refused | access.UnreadableError) -> None:
    body = json.dumps({"error": str(error)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Protocol(H11Protocol):
    """HTTP/1.1 in which clients have to ask and to read in time; those that ask for nothing make room for others."""

    idle: ClassVar[dict["Protocol", None]] = {}
    """Of the whole server, the longest open first."""
    unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.wait_for_request()

    def wait_for_request(self) -> None:
        self.idle[self] = None
        self.timer = self.loop.call_later(HEADER_SECONDS, self.give_up)
        if len(self.idle) > MOST_IDLE:
            next(iter(self.idle)).give_up()

    def asked(self) -> None:
        self.idle.pop(self, None)
        self.timer.cancel()

    def give_up(self) -> None:
        self.asked()
        at_once = struct.pack("ii", 1, 0)  # also what the system keeps for who does not read
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before or self.transport.get_protocol() is not self:
            self.asked()

    def on_response_complete(self) -> None:
        before = self.cycle
        super().on_response_complete()
        if self.cycle is before and not self.transport.is_closing():
            self.asked()
            self.wait_for_request()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.unread = self.loop.call_later(SECONDS, self.give_up)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.unread:
            self.unread.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        self.asked()
        if self.unread:
            self.unread.cancel()
        super().connection_lost(exc)
