"""The web page of `rvm serve`, in Gradio: drop a video, choose a background, see the first frame, run, download.

It asks nothing of any other host, and neither does the server.
"""

import asyncio
import contextlib
import ipaddress
import os
from collections.abc import AsyncIterator, Iterator, MutableMapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

# Read as it is imported. It asks this server itself whether it answers, which no proxy can.
os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "NO_PROXY": "*", "no_proxy": "*"}
import gradio as gr
import gradio.processing_utils
import gradio.routes
from starlette.middleware import Middleware

from rvm_jax.errors import InputError
from rvm_jax.serve import api, html, jobs, uploads
from rvm_jax.serve.jobs import Service
from rvm_jax.serve.security import Guard

BACKGROUNDS = [
    ("Green", "green"),
    ("Transparent", "transparent"),
    ("A colour", "color"),
    ("A picture or video", "file"),
    ("Blurred original", "blur"),
]
DETAILS = [
    ("Faster: one person fills the picture", "faster"),
    ("Automatic", "automatic"),
    ("Finer: whole people, some way off", "finer"),
    ("Finest: small people in a large picture (slow)", "finest"),
]
KINDS = [
    ("MP4: plays everywhere, no transparency", "mp4"),
    ("WebM: transparent, for web pages", "webm"),
    ("MOV: transparent, for video editors", "mov"),
    ("PNGs: a ZIP of pictures", "png"),
]


@contextlib.contextmanager
def serve_page(service: Service, host: str, port: int, accounts: list[tuple[str, str]] | None) -> Iterator[str]:
    """Serve the page within the block; gives its address."""
    with _private(service.folder):
        page = build(service)
        page.queue(default_concurrency_limit=None, api_open=False)
        try:
            _, address, _ = page.launch(
                server_name=_bracketed(host),
                server_port=port,
                auth=accounts,
                max_file_size=round(service.limits.megabytes * 1e6),
                theme=gr.themes.Default(primary_hue="blue", font="sans-serif", font_mono="monospace"),
                css=html.STYLE,
                head=html.SCRIPT,
                footer_links=["api"],
                app_kwargs={"middleware": [Middleware(Guard, service)]},
                prevent_thread_lock=True,
                quiet=True,
                share=False,
                inbrowser=False,
                ssr_mode=False,
                mcp_server=False,
                pwa=False,
                run_history=False,
                enable_monitoring=False,
            )
        except OSError as error:
            raise InputError(f"--host {host} --port {port} cannot be used: is it taken? Try another --port") from error
        except Exception as error:  # whatever it has against the address, or the way there
            page.close(verbose=False)
            reason = " ".join(str(error).split())
            raise InputError(
                f"--host {host} --port {port} cannot be used: {reason or type(error).__name__}; try another --host"
            ) from error
        try:
            yield _open_at(host, port) or address
        finally:
            page.close(verbose=False)


def _bracketed(host: str) -> str:
    """As it stands in an address, where IPv6 has brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _open_at(host: str, port: int) -> str | None:
    """Where to open what listens to all addresses of this machine; None for one that listens to a single one."""
    try:
        ip = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
    return f"http://{'127.0.0.1' if ip.version == 4 else '[::1]'}:{port}/" if ip.is_unspecified else None


def build(service: Service) -> gr.Blocks:
    """The page."""
    with gr.Blocks(title="rvm: cut people out of a video", analytics_enabled=False) as page:
        job, preview = gr.State(""), gr.State("")
        gr.HTML(html.HEAD, elem_classes="rvm-head", padding=False)
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=300):
                video = gr.File(label="Video or picture", file_types=["video", "image"], height=140, elem_id="video")
                gr.HTML(f"<p>{_bounds(service.limits)}</p>", elem_classes="rvm-hint")
                background = gr.Radio(BACKGROUNDS, value="green", label="Background", elem_id="background")
                color = gr.ColorPicker(value="#1e90ff", label="Colour", visible=False, elem_id="color")
                behind = gr.File(
                    label="Picture or video to put behind",
                    file_types=["video", "image"],
                    height=120,
                    visible=False,
                    elem_id="behind",
                )
                kind = gr.Radio(KINDS, value="mp4", label="What you get", elem_id="kind")
                with gr.Accordion("More", open=False, elem_id="more"):
                    detail = gr.Radio(DETAILS, value="automatic", label="How closely to look", elem_id="detail")
                    with gr.Row():
                        start = gr.Number(0, label="Start (seconds)", minimum=0, min_width=120, elem_id="start")
                        # Gradio's pages turn no number into 0.
                        end = gr.Number(0, label="End (seconds; 0: all)", minimum=0, min_width=120, elem_id="end")
            with gr.Column(scale=3, min_width=300):
                result = gr.HTML(html.EMPTY, elem_id="shown")
                status = gr.HTML("", elem_id="status")
                with gr.Row():
                    go = gr.Button("Matte it", variant="primary", elem_id="go")
                    cancel = gr.Button("Cancel", variant="stop", visible=False, elem_id="cancel")
                with gr.Row():
                    download = gr.DownloadButton("Download", variant="primary", visible=False, elem_id="download")
                    download_alpha = gr.DownloadButton("Download alpha", visible=False, elem_id="download-alpha")
        settings = [video, background, color, behind, detail, kind, start, end]
        chosen: list[Any] = [background, color, detail, start, end]
        outputs = [job, result, status, go, cancel, download, download_alpha]

        async def first_frame(previous: str, *values: Any) -> AsyncIterator[dict[Any, Any]]:
            await _forget(service, previous)
            if not values[0]:
                yield {preview: "", result: html.EMPTY}
                return
            if values[1] == "file" and not values[3]:
                yield {preview: "", result: html.NO_BACKGROUND}
                return
            try:
                new = await _submitted(service, values, preview=True)
            except InputError as error:
                yield {preview: "", result: html.failed(str(error))}
                return
            yield {preview: new.name}
            async for current in api.follow(service, new):
                if current.state != "done":
                    yield {result: html.status(current)}
            if new.files:
                yield {result: html.compare(new.request.source.path, new.files, new.request.start)}

        async def run(previous: str, *values: Any) -> AsyncIterator[dict[Any, Any]]:
            hidden = {download: gr.DownloadButton(visible=False), download_alpha: gr.DownloadButton(visible=False)}
            try:
                new = await _submitted(service, values, preview=False)
            except InputError as error:  # what was made before stays
                yield {status: html.failed(str(error))}
                return
            await _forget(service, previous)
            yield {job: new.name, go: gr.Button(interactive=False), cancel: gr.Button(visible=True), **hidden}
            async for current in api.follow(service, new):
                yield {status: html.status(current)}
            last: dict[Any, Any] = {go: gr.Button(interactive=True), cancel: gr.Button(visible=False)}
            if new.files:
                last[result] = html.compare(new.request.source.path, new.files, new.request.start)
                for button, name in ((download, "matte"), (download_alpha, "alpha")):
                    last[button] = gr.DownloadButton(value=str(new.files[name]), visible=True)
            yield last

        def stop(name: str) -> None:
            with contextlib.suppress(InputError):
                jobs.cancel(service, jobs.find(service, name))

        def downloaded(name: str, *sent: Any) -> None:
            """What was downloaded, and what it was made of, goes after a while."""
            with contextlib.suppress(InputError):
                jobs.forget(service, jobs.find(service, name), seconds=jobs.AFTER_DOWNLOAD)
            for file in filter(None, map(api.upload, sent)):
                if file.path.resolve().parent.is_relative_to(service.folder):
                    uploads.expire(file.path.parent, jobs.AFTER_DOWNLOAD, service.limits.keep)

        quiet: dict[str, Any] = {
            "api_visibility": "private",
            "concurrency_limit": None,
            "preprocess": False,  # it would leave an empty file for each one uploaded
            "show_progress": "hidden",
        }
        background.input(_choices, [background, kind], [color, behind, kind], **quiet)
        kind.input(_background_for, [background, kind], background, **quiet)
        looking = gr.on(
            [video.upload, video.clear, behind.upload, *(setting.change for setting in chosen)],
            first_frame,
            [preview, *settings],
            [preview, result],
            trigger_mode="always_last",
            **quiet,
        )
        # A preview that is still being made must not take the place of the result.
        go.click(run, [job, *settings], outputs, trigger_mode="once", cancels=[looking], **quiet)
        cancel.click(stop, job, None, **quiet)
        download.click(downloaded, [job, video, behind], None, **quiet)
        api.add(service)
    return page


def _choices(background: str, kind: str) -> tuple[Any, Any, Any]:
    """What else is to be chosen for a background, and the kind that goes with it."""
    color, behind = gr.ColorPicker(visible=background == "color"), gr.File(visible=background == "file")
    return color, behind, _kind_for(background, kind)


def _kind_for(background: str, kind: str) -> str:
    """MP4 cannot be transparent."""
    return "webm" if background == "transparent" and kind == "mp4" else kind


def _background_for(background: str, kind: str) -> str:
    return "green" if background == "transparent" and kind == "mp4" else background


def _bounds(limits: uploads.Limits) -> str:
    return (
        f"Up to {limits.megabytes:g} MB and {limits.seconds / 60:.3g} minutes. Files stay on this server for "
        f"{limits.keep / 60:.3g} minutes at most, and go soon after the download."
    )


async def _submitted(service: Service, values: Sequence[Any], preview: bool) -> jobs.Job:
    def submit() -> jobs.Job:
        options = api.options(values, preview)
        # Who is quick presses the button before the page has heard which kind goes with the background.
        return jobs.submit(service, replace(options, kind=_kind_for(options.background, options.kind)))

    return await asyncio.to_thread(submit)


async def _forget(service: Service, name: str) -> None:
    """What something new takes the place of."""
    with contextlib.suppress(InputError):
        await asyncio.to_thread(jobs.forget, service, jobs.find(service, name))


@contextlib.contextmanager
def _private(folder: Path) -> Iterator[None]:
    """Let Gradio keep uploads in `folder`, and let it fetch nothing.

    Where its functions expect a file, it would take the address of one, download it, however large, and hand it out.
    """

    def refuse(*_: Any, **__: Any) -> Any:
        raise gr.Error("an address was given: expected an uploaded file", print_exception=False)

    async def refuse_later(*_: Any, **__: Any) -> Any:
        refuse()

    changes: list[tuple[MutableMapping[str, Any], dict[str, Any]]] = [
        (os.environ, {"GRADIO_TEMP_DIR": str(folder)}),
        (vars(gradio.routes), {"DEFAULT_TEMP_DIR": str(folder)}),
        (vars(gradio.processing_utils), {"async_ssrf_protected_download": refuse_later}),
        (vars(gradio.processing_utils), {"ssrf_protected_download": refuse, "save_url_to_cache": refuse}),
    ]
    before = [(place, {name: place.get(name) for name in changed}) for place, changed in changes]
    try:
        for place, changed in changes:
            place.update(changed)
        yield
    finally:
        for place, usual in before:
            for name, value in usual.items():
                place.pop(name) if value is None else place.update({name: value})
