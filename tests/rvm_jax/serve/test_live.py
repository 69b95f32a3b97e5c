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
from rvm_jax.serve import live, uploads
from rvm_jax.video import backgrounds
from rvm_jax.video.matting import matte_chunk
from rvm_jax.video.writing import picture_encoding
from tests.rvm_jax import videos
from tests.rvm_jax.serve.submitting import sent

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

            def opened(person: str = "ann") -> Socket:
                socket: Any = Socket()
                tasks.append(asyncio.create_task(live.live(socket, service, person)))
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
        first, second, third = opened("ann"), opened("bob"), opened("eve")
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
        (["[" * 100_000], "this was not understood"),
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
        silent, many = opened("ann"), opened("bob")
        assert "too many people" in (await many.heard.get())["error"]
        assert "no picture came" in (await silent.heard.get())["error"]

    run(test)


def test_a_picture_that_was_sent_stands_behind_the_camera(run, service, monkeypatch):
    """One of 16 bits: it shares the program of others."""
    shown = []

    def chunk(network: Any, variables: Any, pixels: Any, state: Any, still: Any, *_: Any) -> Any:
        shown.append(still.dtype)
        return {"composite": still}, state

    monkeypatch.setattr(live, "matte_chunk", chunk)
    picture = np.full((HEIGHT, WIDTH, 3), (200, 100, 50), np.uint16) * 257
    behind = sent(service, "behind.png", picture_encoding.encoded(picture, ".png"), "ann")

    async def test(opened):
        browser = opened()
        browser.tell({**WISH, "background": {"upload": behind.id}})
        browser.send(1, FRAMES[0])
        _, pixels = await browser.frame()
        assert np.abs(pixels.astype(int) - (200, 100, 50)).max() < 5
        browser.leave()

    run(test)
    assert shown == [np.uint8]
    assert list(service.folder.iterdir()) == [behind.path.parent]


def test_what_is_not_sent_in_whole_or_no_picture_is_not_put_behind_the_camera(run, inverted, service):
    part = uploads.begin(service, "ann", "behind.png", 9)

    async def test(opened):
        for upload, error in (
            (part, "behind.png is not here in whole"),
            (sent(service, person="ann"), "is no picture"),
        ):
            browser = opened()
            browser.tell({**WISH, "background": {"upload": upload.id}})
            browser.send(1, FRAMES[0])
            assert error in (await browser.heard.get())["error"]

    run(test)


def test_who_does_not_read_makes_room_for_the_next(run, inverted, service, monkeypatch):
    async def test(opened):
        deaf, second = opened("ann"), opened("bob")
        deaf.send_bytes = deaf.send_json = lambda _: asyncio.get_running_loop().create_future()
        deaf.tell(WISH)
        deaf.send(1, FRAMES[0])
        assert await second.heard.get() == {"waiting": 1}
        second.tell(WISH)
        second.send(2, FRAMES[1])
        while second.told.qsize() or not live._lines[service][1].arrived.is_set():
            await asyncio.sleep(0)
        monkeypatch.setattr(live, "SILENCE", 0)
        inverted.release(2)
        assert (await second.frame())[0] == 2
        second.leave()

    run(test)


def test_a_person_stands_in_the_line_once(run, inverted):
    inverted.release(100)

    async def test(opened):
        first, again, guest, other = opened("ann"), opened("ann"), opened(""), opened("")
        assert "your camera is on in another window" in (await again.heard.get())["error"]
        assert again.closed
        for one in (guest, other):
            assert "waiting" in await one.heard.get()
        for one in (first, guest, other):
            one.leave()

    run(test)
