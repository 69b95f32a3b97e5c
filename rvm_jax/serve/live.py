"""The live camera: JPEG frames over a WebSocket, matted one at a time between the chunks of the queue's jobs.

One guest has the device, the others wait in line. Of the frames that come while one is computed the newest is kept.
"""

import asyncio
import contextlib
import io
import json
import re
import tempfile
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import jax
import numpy as np
from PIL import Image
from starlette.websockets import WebSocket, WebSocketDisconnect

from rvm_jax.errors import InputError
from rvm_jax.matte import Matte, automatic_ratio
from rvm_jax.serve import jobs, uploads
from rvm_jax.serve.jobs import Service
from rvm_jax.video import backgrounds, frames
from rvm_jax.video.matting import matte_chunk
from rvm_jax.video.streaming import memoryless

SIZES = ((640, 360), (1280, 720))
"""Width and height of frames, lying or upright: each is a program of its own."""
TURN = 120.0
"""So many seconds a guest has, if others wait."""
SILENCE = 20.0
"""After so many seconds without a frame a guest is sent away."""
LINE = 8
"""How many guests there may be, with those who wait."""


@dataclass(eq=False)
class Guest:
    person: str
    """Nobody in particular if it is empty."""
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    """Somebody left the line."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    frame: tuple[bytes, float] = (b"", 0)
    """The newest, which is empty once it was taken, and when it came."""
    dropped: int = 0
    size: tuple[int, int] = (0, 0)
    background: Any = None
    still: Any = None
    """The background on the device, uint8 [1, H, W, 3]; None blurs the frames' own."""
    state: Any = None


_lines: WeakKeyDictionary[Service, list[Guest]] = WeakKeyDictionary()


async def live(socket: WebSocket, service: Service, person: str) -> None:
    """Matte what a guest's camera sees until one of the two ends it."""
    line, guest = _lines.setdefault(service, []), Guest(person)
    await socket.accept()
    line.append(guest)
    tasks = [asyncio.create_task(work) for work in (_listen(socket, guest), _answer(socket, service, guest))]
    reason = ""
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        done.pop().result()
    except (InputError, TimeoutError) as error:
        reason = str(error) or "no picture came for a while: start the camera again"
    except (WebSocketDisconnect, asyncio.CancelledError):  # the guest left, or the server ends
        pass
    finally:
        line.remove(guest)
        for other in line:
            other.moved.set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if reason:
        with contextlib.suppress(RuntimeError, TimeoutError, WebSocketDisconnect):  # nobody is there to be told
            await _in_time(socket.send_json({"error": reason}))
            await _in_time(socket.close())


async def _in_time(sending: Awaitable[None]) -> None:
    """Give up on a client that does not read."""
    async with asyncio.timeout(SILENCE):
        await sending


async def _listen(socket: WebSocket, guest: Guest) -> None:
    while (message := await socket.receive())["type"] != "websocket.disconnect":
        if message.get("text") is not None:
            size, guest.background = _wish(message["text"])
            if guest.size not in ((0, 0), size):
                raise InputError("pictures of another size: start the camera again")
            guest.size = size
        else:
            guest.dropped += bool(guest.frame[0])
            guest.frame = message["bytes"], time.monotonic()
            guest.arrived.set()


async def _answer(socket: WebSocket, service: Service, guest: Guest) -> None:
    if service.matte.needs:
        raise InputError("this network needs a clean plate, which the camera gives none of: send files")
    line = _lines[service]
    place = line.index(guest)
    if guest.person and any(other.person == guest.person for other in line[:place]):
        raise InputError("your camera is on in another window: stop it there first")
    if place >= LINE:
        raise InputError("too many people wait for the camera: try again in a few minutes")
    while place := line.index(guest):
        await _in_time(socket.send_json({"waiting": place}))
        await guest.moved.wait()
        guest.moved.clear()
    began = told = time.monotonic()
    took: list[float] = []
    background: Any = None
    while time.monotonic() - began < TURN or len(line) == 1:
        async with asyncio.timeout(SILENCE):
            await guest.arrived.wait()
        guest.arrived.clear()
        (data, came), guest.frame = guest.frame, (b"", 0)
        if guest.background != background:
            background = guest.background
            guest.still = await asyncio.to_thread(_still, service, guest.person, background, guest.size)
        pixels = await asyncio.to_thread(_decoded, data[4:], guest.size)
        made = await asyncio.wrap_future(jobs.soon(service, partial(_matte, service, guest, pixels)))
        jpeg = await asyncio.to_thread(_encoded, made)
        await _in_time(socket.send_bytes(data[:4] + jpeg))
        now = time.monotonic()
        took.append(now - came)
        if now - told >= 1:
            rate, latency = len(took) / (now - told), 1000 * sum(took) / len(took)
            figures = {"rate": round(rate, 1), "latency_ms": round(latency), "dropped": guest.dropped}
            await _in_time(socket.send_json(figures))
            told, took = now, []
    raise InputError("others wait for the camera, and your turn is over: start it again to wait for the next")


def _wish(text: str) -> tuple[tuple[int, int], Any]:
    """The size and the background that a guest asks for."""
    try:
        wish = json.loads(text)
        size = wish["width"], wish["height"]
        if size in SIZES or size[::-1] in SIZES:
            return size, wish["background"]
    except (KeyError, RecursionError, TypeError, ValueError):
        pass
    sizes = " or ".join(f"{width}×{height}" for width, height in SIZES)
    raise InputError(f"this was not understood: expected width and height ({sizes}, or upright) and background as JSON")


def _still(service: Service, person: str, background: Any, size: tuple[int, int]) -> Any:
    """A background on the device; all have one shape, so that they share a program."""
    if isinstance(background, dict):
        sent = uploads.find(service, str(background.get("upload")), person)
        with tempfile.TemporaryDirectory(dir=service.folder) as folder:
            file = uploads.accept(sent, Path(folder) / "behind", service.limits)
            if not file.picture:
                raise InputError(f"{sent.name} is no picture: put a picture, a colour or blur behind the camera")
            return _covering(str(file.path), size)
    if background == backgrounds.TRANSPARENT:
        background = backgrounds.CHECKERED
    elif not re.fullmatch(f"green|{backgrounds.BLUR}|#[0-9a-fA-F]{{6}}", str(background)):
        name = uploads.display_name(str(background))
        raise InputError(f"background {name}: expected green, #rrggbb, blur, transparent or an uploaded picture")
    return _covering(background, size)


def _covering(background: str, size: tuple[int, int]) -> Any:
    width, height = size
    with backgrounds.open_background(background, height, width) as opened:
        still = opened.still
    if still is None:
        return None
    return jax.device_put(np.broadcast_to(frames.at_depth(still, np.uint8), (1, height, width, 3)))


def _decoded(data: bytes, size: tuple[int, int]) -> np.ndarray:
    """uint8 [1, H, W, 3]. The header is asked before anything is decoded."""
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as picture:
            if picture.size == size:
                return np.asarray(picture.convert("RGB"))[None]
    except (OSError, Image.DecompressionBombError):
        pass
    raise InputError(f"a frame cannot be read: expected four bytes and a JPEG of {size[0]}×{size[1]} pixels")


def _encoded(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=85)
    return file.getvalue()


def _matte(service: Service, guest: Guest, pixels: np.ndarray) -> np.ndarray:
    """uint8 [1, H, W, 3] to [H, W, 3] before the background; the guest's state goes on."""
    matte, size = service.matte, pixels.shape[1:3]
    jobs.limit_programs(service, "live", size, guest.still is None)
    if not isinstance(matte, Matte):
        made = memoryless.finish(pixels, memoryless.predict(matte, pixels, None), guest.still, ("composite",))
        return np.asarray(made["composite"][0])
    network, ratio = matte.network, automatic_ratio(size)
    state = network.initial_state(1, size, ratio, matte.dtype) if guest.state is None else guest.state
    pixels, still = jax.device_put(pixels), guest.still
    made, guest.state = matte_chunk(network, matte.variables, pixels, state, still, ratio, ("composite",))
    return np.asarray(made["composite"][0])
