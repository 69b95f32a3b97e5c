"""The live camera of the page, over a WebSocket."""

from starlette.websockets import WebSocket

from rvm_jax.serve.jobs import Service


async def live(socket: WebSocket, service: Service, person: str) -> None:
    """Matte the frames that a browser sends, as long as it does."""
    await socket.accept()
    await socket.send_json({"error": "there is no live camera yet"})
    await socket.close()
