"""The endpoints of the HTTP API, and the page: what each address answers, of one person's uploads and jobs."""

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
from starlette.concurrency import run_in_threadpool as in_thread
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)

from rvm_jax.errors import InputError
from rvm_jax.host import memory
from rvm_jax.serve import access, guard, jobs, requests, uploads
from rvm_jax.serve.access import Access
from rvm_jax.serve.jobs import UNFINISHED, Job, Service
from rvm_jax.serve.uploads import Refused, Upload

STATIC = Path(__file__).parent / "static"
EXAMPLE = STATIC / "example.mp4"
WANTED = ("matte", "alpha", "preview")
POLL_EVERY, SILENT = 0.2, 15.0  # seconds
COPY_BYTES = 2**20

TYPES = {
    ".bmp": "image/bmp",
    ".gif": "image/gif",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".m4v": "video/mp4",
    ".mkv": "video/x-matroska",
    ".mov": "video/quicktime",
    ".mp4": "video/mp4",
    ".ogv": "video/ogg",
    ".png": "image/png",
    ".webm": "video/webm",
    ".webp": "image/webp",
    ".zip": "application/zip",
}
"""What files are handed out as: videos and pictures that were examined before, and nothing else."""


def _service(request: Request) -> Service:
    return request.app.state.service


def _access(request: Request) -> Access:
    return request.app.state.access


def _job(request: Request) -> Job:
    return jobs.find(_service(request), request.path_params["job"], request.state.person)


def _upload(request: Request) -> Upload:
    return uploads.find(_service(request), request.path_params["upload"], request.state.person)


def refused(request: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HTTPException) else getattr(error, "status", 400)
    headers = {"retry-after": "30"} if status == 429 else {}
    text = error.detail if isinstance(error, HTTPException) else str(error)
    return JSONResponse({"error": text}, status, headers)


def broken(request: Request, error: Exception) -> JSONResponse:
    """For what uvicorn tells the server's owner."""
    return JSONResponse({"error": f"the server could not do it: {type(error).__name__}"}, 500)


async def page(request: Request) -> Response:
    response = FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})
    if _access(request).open:  # a guest stays the same one as long as the page is opened now and then
        _set_session(request, response, request.state.person or access.guest())
    return response


def _set_session(request: Request, response: Response, person: str) -> None:
    response.set_cookie(
        guard.COOKIE,
        access.start_session(_access(request), person),
        max_age=access.SESSION_SECONDS,
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",
    )


async def settings(request: Request) -> JSONResponse:
    service, person = _service(request), request.state.person or ""
    limits = service.limits
    return JSONResponse(
        {
            "version": version("rvm-jax"),
            "device": jax.devices()[0].device_kind,
            "network": service.matte.name,
            "weights": service.weights,
            "needs_plate": bool(service.matte.needs),
            "login": _access(request).file is not None,
            "person": person.removeprefix("person:") if person.startswith("person:") else None,
            "live": not service.matte.needs,
            "limits": {
                "bytes": round(limits.megabytes * 1e6),
                "seconds": limits.seconds,
                "side": limits.side,
                "files": limits.each,
                "keep": limits.keep,
            },
            "backgrounds": requests.BACKGROUNDS,
            "formats": requests.FORMATS,
            "details": list(requests.DETAILS) if service.matte.keeps_state else ["automatic"],
            "example": f"/static/{EXAMPLE.name}" if EXAMPLE.exists() else None,
        }
    )


async def _json(request: Request) -> dict[str, Any]:
    body = await request.body()
    try:
        content = json.loads(body)
    except (RecursionError, ValueError):  # also of a number of too many digits
        content = None
    if not isinstance(content, dict):
        raise InputError('the request is no JSON object: expected one, such as {"video": "…"}')
    return content


async def log_in(request: Request) -> Response:
    allowed, content = _access(request), await _json(request)
    if allowed.file is None:
        raise Refused("nobody logs in here", 404)
    name, password = str(content.get("name", "")), str(content.get("password", ""))
    address = request.client.host if request.client else ""
    keys = (f"address {address}", f"name {name[:64]}")
    async with request.app.state.checking:  # one after the other: each takes a processor and 16 MB
        if seconds := access.delay(allowed, keys):
            message = f"too many wrong passwords: try again in {seconds} s"
            return JSONResponse({"error": message}, 429, {"retry-after": str(seconds)})
        right = await in_thread(access.check_password, allowed, name, password)
        access.note_guess(allowed, keys, right)
    if not right:
        raise Refused("name or password is wrong", 401)
    response = Response(status_code=204)
    _set_session(request, response, f"person:{name}")
    return response


async def log_out(request: Request) -> Response:
    access.end_session(_access(request), request.cookies.get(guard.COOKIE, ""))
    response = Response(status_code=204)
    response.delete_cookie(guard.COOKIE, httponly=True, samesite="lax")
    return response


async def begin_upload(request: Request) -> JSONResponse:
    content = await _json(request)
    size = content.get("bytes")
    if type(size) is not int or size.bit_length() > 63:
        raise InputError("bytes is missing or no size: expected how many bytes the file has")
    upload = uploads.begin(_service(request), request.state.person, str(content.get("name", "")), size)
    return JSONResponse({"id": upload.id, "offset": 0, "piece": guard.PIECE_BYTES}, 201)


async def upload_offset(request: Request) -> JSONResponse:
    return JSONResponse({"offset": _upload(request).offset})


async def append_upload(request: Request) -> JSONResponse:
    service, upload = _service(request), _upload(request)
    with uploads.appending(service, upload):
        if request.headers.get("upload-offset") != str(upload.offset):
            return JSONResponse({"error": "this piece does not come next", "offset": upload.offset}, 409)
        async for piece in request.stream():
            await in_thread(uploads.append, service, upload, piece)
    return JSONResponse({"offset": upload.offset})


async def discard_upload(request: Request) -> Response:
    await in_thread(uploads.discard, _service(request), _upload(request))
    return Response(status_code=204)


async def list_jobs(request: Request) -> JSONResponse:
    service, person = _service(request), request.state.person
    own = [job for job in list(service.jobs.values()) if job.person == person and not job.request.preview and person]
    return JSONResponse({"jobs": [described(service, job) for job in reversed(own)]})


async def submit_job(request: Request) -> Response:
    service, person = _service(request), request.state.person
    wanted = request.query_params.get("wait")
    if wanted is not None and wanted not in WANTED:
        raise InputError(f"wait={uploads.display_name(wanted)}: expected one of {', '.join(WANTED)}")

    def submit(given: dict[str, Any]) -> Job:
        chosen = requests.parse(given, lambda name: uploads.find(service, name, person))
        return jobs.submit(service, chosen, person)

    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        job = await _submit_form(request, submit)
    else:
        job = await in_thread(submit, await _json(request))
    if wanted is not None:
        return RedirectResponse(f"/v1/jobs/{job.id}/{wanted}?wait=1", 303)
    return JSONResponse(described(service, job), 201, {"location": f"/v1/jobs/{job.id}"})


async def _submit_form(request: Request, submit: Any) -> Job:
    """The files of a form become uploads as those in pieces, and go with the job."""
    service, own = _service(request), []
    with uploads.room_for(service, int(request.headers.get("content-length", "0"))):
        async with request.form(max_files=3, max_fields=10, max_part_size=guard.BODY_BYTES) as form:
            given: dict[str, Any] = dict(form)
            try:
                for name, value in form.items():
                    if isinstance(value, UploadFile):
                        upload = uploads.begin(service, request.state.person, value.filename or "", value.size or 0)
                        own.append(upload)
                        given[name] = upload
                        while piece := await value.read(COPY_BYTES):
                            await in_thread(uploads.append, service, upload, piece)
                return await in_thread(submit, given)
            finally:
                for upload in own:
                    uploads.discard(service, upload)


async def show_job(request: Request) -> JSONResponse:
    return JSONResponse(described(_service(request), _job(request)))


async def forget_job(request: Request) -> Response:
    await in_thread(jobs.forget, _service(request), _job(request))
    return Response(status_code=204)


async def follow_job(request: Request) -> StreamingResponse:
    service, job = _service(request), _job(request)

    async def events() -> AsyncIterator[str]:
        last, told = None, time.monotonic()
        while not service.closing:
            ended, now = job.state not in UNFINISHED, described(service, job)
            if now != last:
                yield f"data: {json.dumps(now)}\n\n"
                last, told = now, time.monotonic()
            elif time.monotonic() - told > SILENT:  # or a proxy takes it for dead
                yield ":\n\n"
                told = time.monotonic()
            if ended:
                return
            await asyncio.sleep(POLL_EVERY)

    return StreamingResponse(events(), media_type="text/event-stream", headers={"cache-control": "no-store"})


async def job_file(request: Request) -> Response:
    service, job, name = _service(request), _job(request), request.path_params["file"]
    while request.query_params.get("wait") and job.state in UNFINISHED and not service.closing:
        if await request.is_disconnected():
            return Response(status_code=204)
        await asyncio.sleep(POLL_EVERY)
    if job.error is not None:
        raise InputError(job.error)
    path = (job.files | {"source": job.request.source.path}).get(name)
    if path is None or path.suffix not in TYPES or not path.exists():
        raise Refused(f"this job has no file {uploads.display_name(name)} (yet, or any more)", 404)
    job.touched = time.monotonic()
    if name == "preview" and job.state in UNFINISHED:  # another file will soon have this name
        return Response(await in_thread(path.read_bytes), media_type=TYPES[path.suffix])
    return FileResponse(
        path,
        media_type=TYPES[path.suffix],
        filename=download_name(job, name, path),
        content_disposition_type="attachment" if request.query_params.get("download") else "inline",
        headers={"cache-control": "private, no-cache"},
    )


def download_name(job: Job, name: str, path: Path) -> str:
    source = Path(job.request.source.name)
    return source.name if name == "source" else f"{source.stem}-{name}{path.suffix}"


def described(service: Service, job: Job) -> dict[str, Any]:
    """A job as programs see it."""
    rate, left = jobs.speed(job)
    source, files = job.request.source, dict(job.files)
    where = f"/v1/jobs/{job.id}"
    results = {
        name: {
            "url": f"{where}/{name}",
            "name": download_name(job, name, path),
            "type": TYPES[path.suffix],
            "bytes": path.stat().st_size if path.exists() else 0,
        }
        for name, path in files.items()
    }
    shown = source.path.suffix in TYPES and source.path.exists()
    return {
        "id": job.id,
        "name": source.name,
        "state": job.state,
        "place": jobs.place(service, job),
        "frames": job.done,
        "of": job.expected,
        "rate": None if rate is None else round(rate, 2),
        "seconds_left": None if left is None else round(left, 1),
        "error": job.error,
        "warnings": job.warnings,
        "created": job.created,
        "width": source.width,
        "height": source.height,
        "start": job.request.start,
        "results": results,
        "source": {"url": f"{where}/source", "type": TYPES[source.path.suffix]} if shown else None,
    }


async def description(request: Request) -> Response:
    return FileResponse(Path(__file__).parent / "openapi.json", media_type="application/json")


async def health(request: Request) -> Response:
    """Whether the thread lives that computes."""
    alive = _service(request).alive
    return PlainTextResponse("ok\n" if alive else "the thread that computes has ended\n", 200 if alive else 503)


async def metrics(request: Request) -> Response:
    service = _service(request)
    running = service.running
    rate = None if running is None else jobs.speed(running)[0]
    lines = [f'rvm_jobs_total{{state="{state}"}} {service.counts[state]}' for state in ("done", "failed", "cancelled")]
    values = {
        "rvm_frames_total": service.counts["frames"],
        "rvm_frames_per_second": rate or 0,
        "rvm_jobs_waiting": len(service.waiting) + len(service.previews),
        "rvm_jobs_running": int(running is not None),
        "rvm_uploads": len(service.uploads),
        "rvm_disk_free_bytes": shutil.disk_usage(service.folder).free,
        "process_resident_memory_bytes": memory.resident_bytes(),
    }
    lines += [f"{name} {value}" for name, value in values.items()]
    return PlainTextResponse("\n".join([*lines, ""]), media_type="text/plain; version=0.0.4")
