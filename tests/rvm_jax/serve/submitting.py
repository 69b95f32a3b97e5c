"""Uploads for tests of the service, and waiting for what becomes of them."""

import time
from pathlib import Path

from rvm_jax.serve import jobs
from rvm_jax.serve.jobs import Job, Service
from rvm_jax.serve.uploads import Upload
from tests.rvm_jax import videos

COUNT = 5
"""How many frames a clip has."""


def sent(service: Service, name: str = "clip.mp4", content: bytes | None = None) -> Upload:
    """An upload: a clip of half a second, or a file with this content."""
    folder = service.folder / f"upload-{len(list(service.folder.iterdir()))}"
    folder.mkdir()
    path = folder / f"sent{Path(name).suffix}"
    if content is None:
        videos.write(path, videos.moving(COUNT), rate=10)
    else:
        path.write_bytes(content)
    return Upload(path, name)


def finished(service: Service, job: Job) -> Job:
    while (progress := jobs.status(service, job)).state in jobs.UNFINISHED:
        time.sleep(0.01)
    assert progress.state != "failed" or progress.message
    return job
