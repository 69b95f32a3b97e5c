"""Uploads for tests of the service, and waiting for what becomes of them."""

import tempfile
from pathlib import Path

from rvm_jax.serve import jobs, uploads
from rvm_jax.serve.jobs import Job, Service
from rvm_jax.serve.uploads import Upload
from tests.rvm_jax import videos

COUNT = 5
"""How many frames a clip has."""


def sent(service: Service, name: str = "clip.mp4", content: bytes | None = None, person: str = "") -> Upload:
    """An upload: a clip of half a second, or a file with this content."""
    if content is None:
        with tempfile.TemporaryDirectory() as folder:
            content = videos.write(Path(folder) / "clip.mp4", videos.moving(COUNT), rate=10).read_bytes()
    upload = uploads.begin(service, person, name, len(content))
    uploads.append(service, upload, content)
    return upload


def finished(service: Service, job: Job) -> Job:
    with service.changed:
        assert service.changed.wait_for(lambda: job.state not in jobs.UNFINISHED, 120)
    assert job.state != "failed" or job.error
    return job
