"""The HTTP API: what the page does, as functions that Gradio serves to programs."""

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
from rvm_jax.serve.uploads import Upload

POLL_EVERY = 0.3  # seconds


def upload(value: Any) -> Upload | None:
    """A file as Gradio hands it over: the path that an upload was answered with, or a dict that holds it."""
    if isinstance(value, dict):
        path, name = value.get("path"), value.get("orig_name")
    else:
        path, name = value, None
    if not path:
        return None
    if not isinstance(path, str) or "\0" in path:
        raise InputError("a file is given in an unknown way: expected the path that its upload was answered with")
    return Upload(Path(path), str(name or Path(path).name))


def number(name: str, value: Any) -> float | None:
    try:
        return None if value in (None, "") else float(value)
    except (OverflowError, TypeError, ValueError):
        raise InputError(f"{name} {uploads.display_name(str(value))}: expected seconds, such as 1.5") from None


def options(values: Sequence[Any], preview: bool) -> Options:
    """Of video, background, color, behind, detail, kind, start and end, as they come from a browser or a program."""
    video, background, color, behind, detail, kind, start, end = values
    source = upload(video)
    if source is None:
        raise InputError("no video was given: drop one first")
    return Options(
        source,
        background=str(background),
        color=str(color),
        behind=upload(behind) if background == "file" else None,
        detail=str(detail),
        kind=str(kind),
        start=number("start", start),
        end=number("end", end) or None,
        preview=preview,
    )


async def follow(service: Service, job: Job) -> AsyncIterator[jobs.JobStatus]:
    """How far a job is, again and again until it ends."""
    while True:
        status = jobs.status(service, job)
        yield status
        if status.state not in jobs.UNFINISHED:
            return
        await asyncio.sleep(POLL_EVERY)


def add(service: Service) -> None:
    """Add the functions to the page that is being built."""

    async def run(chosen: Callable[[], Options]) -> AsyncIterator[dict[str, Any]]:
        try:
            job = await asyncio.to_thread(lambda: jobs.submit(service, chosen()))
        except InputError as error:
            raise gr.Error(str(error), print_exception=False) from None
        last = None
        async for status in follow(service, job):
            if status.state == "failed":
                raise gr.Error(status.message, print_exception=False)
            answer = {"job": job.name, **status._asdict()}
            answer |= {name: f"/{address(path)}" for name, path in job.files.items()}
            if answer != last:
                yield answer
            last = answer

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
        that of the video. Answers how far it is until `state` is done; then `matte` and `alpha` are where the files
        are to be had for a while.
        """
        values = (video, background, color, behind, detail, kind, start, end)
        async for answer in run(lambda: options(values, preview=False)):
            yield answer

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
        async for answer in run(lambda: options(values, preview=True)):
            yield answer

    def cancel(job: str = "") -> bool:
        """Stop the job of that name, and remove its files."""
        try:
            jobs.forget(service, jobs.find(service, job))
        except InputError as error:
            raise gr.Error(str(error), print_exception=False) from None
        return True

    for function in (matte, preview, cancel):
        gr.api(function, concurrency_limit=None)
