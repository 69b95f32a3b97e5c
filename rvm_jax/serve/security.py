"""The security middleware of the page: no requests to other hosts, and no body without a bound."""

import math

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rvm_jax.errors import InputError
from rvm_jax.serve import uploads
from rvm_jax.serve.jobs import Service

POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"
"""What browsers are told: to ask nobody but this server. Gradio puts scripts into its page."""

REFUSED = ("file=http", "proxy=", "process_recording", "component_server", "run-history")
"""What of Gradio's API fetches from other hosts, or takes files without a limit."""

UPLOAD = "/gradio_api/upload"

FORM_BYTES = 2**20
"""What an upload may have around its file, and any other request as a whole."""


class Guard:
    """Tells browsers to ask no other host, and refuses to do so itself; and bounds what is sent at once."""

    def __init__(self, app: ASGIApp, service: Service):
        self.app = app
        self.folder = service.folder
        self.megabytes = service.limits.megabytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY.encode())]
            await send(message)

        path = scope.get("path", "")
        if path.startswith(tuple(f"/gradio_api/{name}" for name in REFUSED)):
            await PlainTextResponse("this server does not do that", 403)(scope, receive, send)
        elif scope["type"] == "http" and (refusal := self.too_much(path, _length(scope))):
            await refusal(scope, receive, send)
        else:
            await self.app(scope, receive, sent)

    def too_much(self, path: str, length: float) -> PlainTextResponse | None:
        """The answer to a body that is too long, or for which there is no room."""
        upload = path == UPLOAD
        if length > FORM_BYTES + (self.megabytes * 1e6 if upload else 0):
            most = f"{self.megabytes:g} MB in one upload" if upload else "1 MB in one request"
            return PlainTextResponse(f"expected at most {most}, with its Content-Length", 413)
        try:
            if upload:
                uploads.refuse_if_full(self.folder, length)
        except InputError as error:
            return PlainTextResponse(str(error), 507)
        return None


def _length(scope: Scope) -> float:
    """Of a request's body in bytes; infinite if the request does not say."""
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"0")
    return int(length) if length.isdigit() and b"transfer-encoding" not in headers else math.inf
