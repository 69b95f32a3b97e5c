"""The server of `rvm serve`: its routes in Starlette, for the page and for programs, and uvicorn that runs them."""

import asyncio
import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from rvm_jax.errors import InputError
from rvm_jax.serve import api, guard
from rvm_jax.serve.access import Access
from rvm_jax.serve.jobs import Service
from rvm_jax.serve.live import live

CONNECTIONS = 500


def build(service: Service, allowed: Access) -> Starlette:
    """The application: only these routes exist."""

    def route(path: str, endpoint: Any, *methods: str) -> Route:
        return Route(path, endpoint, methods=list(methods or ("GET",)))

    async def camera(socket: WebSocket) -> None:
        await live(socket, service, socket.state.person)

    app = Starlette(
        routes=[
            route("/", api.page),
            route("/jobs/{job}", api.page),
            Mount("/static", Static(directory=api.STATIC)),
            route("/v1/settings", api.settings),
            route("/v1/session", api.log_in, "POST"),
            route("/v1/session", api.log_out, "DELETE"),
            route("/v1/uploads", api.begin_upload, "POST"),
            route("/v1/uploads/{upload}", api.upload_offset),
            route("/v1/uploads/{upload}", api.append_upload, "PATCH"),
            route("/v1/uploads/{upload}", api.discard_upload, "DELETE"),
            route("/v1/jobs", api.list_jobs),
            route("/v1/jobs", api.submit_job, "POST"),
            route("/v1/jobs/{job}", api.show_job),
            route("/v1/jobs/{job}", api.forget_job, "DELETE"),
            route("/v1/jobs/{job}/events", api.follow_job),
            route("/v1/jobs/{job}/{file}", api.job_file),
            route("/v1/openapi.json", api.description),
            route("/healthz", api.health),
            route("/metrics", api.metrics),
            WebSocketRoute("/v1/live", camera),
        ],
        middleware=[Middleware(guard.Guard, access=allowed, store=service)],
        exception_handlers={InputError: api.refused, HTTPException: api.refused, Exception: api.broken},
    )
    app.router.redirect_slashes = False
    app.state.service, app.state.access, app.state.checking = service, allowed, asyncio.Lock()
    return app


@contextlib.contextmanager
def serve_page(service: Service, allowed: Access, host: str, port: int) -> Iterator[str]:
    """Serve the page within the block; gives its address."""
    try:
        family, *_, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family, backlog=1024)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"--host {host} --port {port} cannot be used: {reason}; try another --port or --host"
        ) from error
    config = uvicorn.Config(
        build(service, allowed),
        http=guard.Protocol,
        ws="websockets-sansio",
        ws_max_size=2**20,
        ws_per_message_deflate=False,
        limit_concurrency=CONNECTIONS,
        h11_max_incomplete_event_size=guard.HEADER_BYTES,
        timeout_graceful_shutdown=3,
        server_header=False,
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="error",
    )
    config.load()  # tells here what is not installed
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield _open_at(host, listener.getsockname()[1])
    finally:
        with service.changed:
            service.closing = True
            service.changed.notify_all()
        server.should_exit = True
        thread.join()
        listener.close()


def _open_at(host: str, port: int) -> str:
    """Where to open what listens there; what listens to all addresses is opened at that of this machine."""
    with contextlib.suppress(ValueError):
        ip = ipaddress.ip_address(host.strip("[]"))
        host = ("127.0.0.1" if ip.version == 4 else "::1") if ip.is_unspecified else str(ip)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


class Static(StaticFiles):
    """The page's files, asked for anew each time, since they come with the version."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers["cache-control"] = "no-cache"
        return response
