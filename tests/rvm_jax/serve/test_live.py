"""The live camera, with a WebSocket of which the test is the other side."""

import asyncio
import io
import json
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from rvm_jax.matte import automatic_ratio
from rvm_jax.serve import live
from rvm_jax.video import backgrounds
from rvm_jax.video.matting import matte_chunk
from tests.rvm_jax import videos

WIDTH, HEIGHT = 64, 48
WISH = {"width": WIDTH, "height": HEIGHT, "background": "#1e90ff"}


class Socket:
    """A browser: `told` goes to the server, `heard` comes from it."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.heard: asyncio.Queue[Any] = asyncio.Queue()
        self.closed = False
        self.receive, self.send_bytes, self.send_json = self.told.get, self.heard.put, self.heard.put

    async def accept(self) -> None:
        pass

    async def close(self) -> None:
        self.closed = True

    def tell(self, what: Any) -> None:
        self.told.put_nowait({"type": "websocket.receive", "text": what if isinstance(what, str) else json.dumps(what)})

    def send(self, number: int, data: bytes) -> None:
        self.told.put_nowait({"type": "websocket.receive", "bytes": number.to_bytes(4, "big") + data})

    def leave(self) -> None:
        self.told.put_nowait({"type": "websocket.disconnect"})

    async def frame(self) -> tuple[int, np.ndarray]:
        """The next one that is not figures."""
        while isinstance(heard := await self.heard.get(), dict):
            assert "rate" in heard
        return int.from_bytes(heard[:4], "big"), np.asarray(Image.open(io.BytesIO(heard[4:])))


def jpeg(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()


FRAMES = [jpeg(pixels) for pixels in videos.moving(5, HEIGHT, WIDTH)]


@pytest.fixture
def run(service, monkeypatch) -> Callable[[Callable[..., Coroutine[Any, Any, None]]], None]:
    """Runs a test in an event loop, with a function that opens a connection."""
    monkeypatch.setattr(live, "SIZES", ((WIDTH, HEIGHT),))

    def run(test: Callable[..., Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            tasks = []

            def opened() -> Socket:
                socket: Any = Socket()
                tasks.append(asyncio.create_task(live.live(socket, service, "ann")))
                return socket

            async with asyncio.timeout(120):
                await test(opened)
                await asyncio.gather(*tasks)
            assert live._lines[service] == []

        asyncio.run(main())

    return run


@pytest.fixture
def inverted(monkeypatch) -> threading.Semaphore:
    """In place of the network, what inverts frames; it waits for the semaphore."""
    may = threading.Semaphore(0)

    def chunk(network: Any, variables: Any, pixels: Any, state: Any, *_: Any) -> Any:
        may.acquire()
        return {"composite": 255 - pixels}, state

    monkeypatch.setattr(live, "matte_chunk", chunk)
    return may


def test_frames_come_back_before_the_background_and_the_state_goes_on(run, matte):
    async def test(opened):
        browser = opened()
        browser.tell(WISH)
        ratio = automatic_ratio((HEIGHT, WIDTH))
        state = matte.network.initial_state(1, (HEIGHT, WIDTH), ratio, matte.dtype)
        for number, color in enumerate(["#1e90ff", "#1e90ff", "#ff0000"]):
            if number == 2:
                browser.tell({**WISH, "background": color})
            browser.send(number, FRAMES[number])
            answered, shown = await browser.frame()
            assert answered == number
            with backgrounds.open_background(color, HEIGHT, WIDTH) as background:
                pixels = np.asarray(Image.open(io.BytesIO(FRAMES[number])))[None]
                made, state = matte_chunk(
                    matte.network,
                    matte.variables,
                    pixels,
                    state,
                    jax.numpy.asarray(background.still),
                    ratio,
                    ("composite",),
                )
            expected = np.asarray(Image.open(io.BytesIO(live._encoded(np.asarray(made["composite"][0])))))
            assert np.abs(shown.astype(int) - expected).mean() < 1
        browser.leave()

    run(test)


def test_of_frames_that_come_while_one_is_computed_the_newest_is_kept(run, inverted, service):
    async def test(opened):
        browser = opened()
        browser.tell(WISH)
        browser.send(1, FRAMES[0])
        while not (line := live._lines.get(service)) or line[0].still is None or line[0].frame[0]:
            await asyncio.sleep(0)
        for number in (2, 3, 4):
            browser.send(number, FRAMES[number])
        while browser.told.qsize():
            await asyncio.sleep(0)
        assert line[0].dropped == 2
        inverted.release(2)
        assert (await browser.frame())[0] == 1
        number, shown = await browser.frame()
        assert number == 4
        assert np.abs(255 - shown.astype(int) - videos.moving(5, HEIGHT, WIDTH)[4]).mean() < 5
        browser.leave()

    run(test)


def test_guests_wait_for_one_another_and_a_turn_ends_if_others_wait(run, inverted, monkeypatch):
    inverted.release(100)

    async def test(opened):
        first, second, third = opened(), opened(), opened()
        for browser in (first, second, third):
            browser.tell(WISH)
            browser.send(1, FRAMES[0])
        assert (await first.frame())[0] == 1
        assert await second.heard.get() == {"waiting": 1}
        assert await third.heard.get() == {"waiting": 2}
        first.leave()
        assert (await second.frame())[0] == 1
        assert await third.heard.get() == {"waiting": 1}
        monkeypatch.setattr(live, "TURN", 0)
        second.send(2, FRAMES[1])
        assert (await second.frame())[0] == 2
        assert "your turn is over" in (await second.heard.get())["error"]
        assert second.closed
        for number in (2, 3):  # nobody waits
            assert (await third.frame())[0] == number - 1
            third.send(number, FRAMES[1])
        third.leave()

    run(test)


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        (["{"], "this was not understood: expected width and height (64×48, or upright)"),
        ([{**WISH, "width": 10_000}], "this was not understood"),
        ([{**WISH, "background": "/etc/passwd"}], "background passwd: expected green"),
        ([{**WISH, "background": {"upload": "somebody-elses"}}], "somebody-elses"),
        ([WISH, {**WISH, "width": HEIGHT, "height": WIDTH}], "pictures of another size"),
        ([WISH, b"GIF89a"], "a frame cannot be read: expected four bytes and a JPEG of 64×48 pixels"),
        ([WISH, jpeg(np.zeros((HEIGHT * 2, WIDTH, 3), np.uint8))], "a frame cannot be read"),
        ([WISH, FRAMES[0][:400]], "a frame cannot be read"),
    ],
    ids=lambda value: "" if isinstance(value, list) else value.split(":")[0],
)
def test_what_is_no_live_camera_is_refused(run, inverted, messages, error):
    inverted.release(100)

    async def test(opened):
        browser = opened()
        for message in messages:
            browser.send(1, message) if isinstance(message, bytes) else browser.tell(message)
        if not any(isinstance(message, bytes) for message in messages):
            browser.send(1, FRAMES[0])
        while "error" not in (heard := await browser.heard.get()):
            pass
        assert error in heard["error"]
        assert "\n" not in heard["error"]
        assert browser.closed

    run(test)


def test_who_sends_nothing_or_comes_too_many_is_sent_away(run, monkeypatch):
    monkeypatch.setattr(live, "SILENCE", 0)
    monkeypatch.setattr(live, "LINE", 1)

    async def test(opened):
        silent, many = opened(), opened()
        assert "too many people" in (await many.heard.get())["error"]
        assert "no picture came" in (await silent.heard.get())["error"]

    run(test)
