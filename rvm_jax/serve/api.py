"""What the page does, for programs: functions that Gradio serves over HTTP."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from rvm_jax.errors import InputError
from rvm_jax.serve import jobs, uploads
from rvm_jax.serve.html import address
from rvm_jax.serve.jobs import Job, Service
from rvm_jax.serve.requests import Options
from rvm_jax.serve.uploads import Given

ASK_EVERY = 0.3  # seconds


def given(value: Any) -> Given | None:
    """A file as Gradio hands it over: the path that an upload was answered with, or a dict that holds it."""
    if isinstance(value, dict):
        path, name = value.get("path"), value.get("orig_name")
    else:
        path, name = value, None
    if not path:
        return None
    if not isinstance(path, str) or "\0" in path:
        raise InputError("a file is given in an unknown way: expected the path that its upload was answered with")
    return Given(Path(path), str(name or Path(path).name))


def number(name: str, value: Any) -> float | None:
    try:
        return None if value in (None, "") else float(value)
    except (OverflowError, TypeError, ValueError):
        raise InputError(f"{name} {uploads.shown(str(value))}: expected seconds, such as 1.5") from None


def wishes(values: Sequence[Any], look: bool) -> Options:
    """Of video, background, color, behind, detail, kind, start and end, as they come from a browser or a program."""
    video, background, color, behind, detail, kind, start, end = values
    source = given(video)
    if source is None:
        raise InputError("no video was given: drop one first")
    return Options(
        source,
        background=str(background),
        color=str(color),
        behind=given(behind) if background == "file" else None,
        detail=str(detail),
        kind=str(kind),
        start=number("start", start),
        end=number("end", end) or None,
        look=look,
    )


async def followed(service: Service, job: Job) -> AsyncIterator[jobs.JobProgress]:
    """How far a job is, again and again until it ends."""
    while True:
        progress = jobs.ask(service, job)
        yield progress
        if progress.state not in jobs.UNFINISHED:
            return
        await asyncio.sleep(ASK_EVERY)


def add(service: Service) -> None:
    """Add the functions to the page that is being built."""

    async def run(wanted: Callable[[], Options]) -> AsyncIterator[dict[str, Any]]:
        try:
            job = await asyncio.to_thread(lambda: jobs.submit(service, wanted()))
        except InputError as error:
            raise gr.Error(str(error), print_exception=False) from None
        last = None
        async for progress in followed(service, job):
            if progress.state == "failed":
                raise gr.Error(progress.message, print_exception=False)
            told = {"job": job.name, **progress._asdict()}
            told |= {name: f"/{address(path)}" for name, path in job.files.items()}
            if told != last:
                yield told
            last = told

    async def matte(
        video: str | None = None,
        background: str = "green",
        color: str = "#00ff00",
        behind: str | None = None,
        detail: str = "automatic",
        kind: str = "mp4",
        start: float = 0,
        end: float | None = None,
    ) -> AsyncIterator[dict[str, Any]]:
        """Matte `video`, the path that its upload was answered with.

        `background` is transparent, green, color, blur, or file with the uploaded `behind`; `detail` faster, automatic,
        finer or finest; `kind` mp4, webm, mov or png (a zip); `start` and `end` are seconds, and an `end` of 0 is
        that of the video. Tells where it is until `state` is done; then `matte` and `alpha` are where to get the files,
        for a while.
        """
        values = (video, background, color, behind, detail, kind, start, end)
        async for told in run(lambda: wishes(values, look=False)):
            yield told

    async def preview(
        video: str | None = None,
        background: str = "green",
        color: str = "#00ff00",
        behind: str | None = None,
        detail: str = "automatic",
        start: float = 0,
    ) -> AsyncIterator[dict[str, Any]]:
        """The first frame alone, as pictures: `view` on the background, and `alpha`."""
        values = (video, background, color, behind, detail, "png", start, None)
        async for told in run(lambda: wishes(values, look=True)):
            yield told

    def cancel(job: str = "") -> bool:
        """Stop the job of that name, and remove its files."""
        try:
            jobs.forget(service, jobs.find(service, job))
        except InputError as error:
            raise gr.Error(str(error), print_exception=False) from None
        return True

    for function in (matte, preview, cancel):
        gr.api(function, concurrency_limit=None)
