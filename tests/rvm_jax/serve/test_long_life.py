"""A server that lives long: after many jobs of many sizes it takes no more memory and disk than after one of each.

RVM_JOBS is how many there are; `make campaign` asks for 500, of 30 sizes.
"""

import io
import os
import random
import re

import pytest
from PIL import Image

from rvm_jax.serve import jobs
from tests.rvm_jax import videos
from tests.rvm_jax.serve.servers import Server, ask, form

COUNT = int(os.environ.get("RVM_JOBS", "30"))
SIZES = [(48 + 5 * number, 160 - 4 * number) for number in range(30 if COUNT >= 100 else 3)]
MORE = 1.15
"""What the heap may grow by: it is never as tidy again."""


def picture(size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(videos.moving(1, *size)[0]).save(file, "PNG")
    return file.getvalue()


def memory(server: Server) -> int:
    found = re.search(r"process_resident_memory_bytes (\d+)", ask(server.address, "GET", "/metrics").body.decode())
    assert found is not None
    return int(found[1])


@pytest.mark.slow
def test_memory_and_disk_after_many_jobs_are_as_after_one_of_each_size(server):
    draw = random.Random(0)
    order = [*range(len(SIZES)), *(draw.randrange(len(SIZES)) for _ in range(COUNT - len(SIZES)))]
    assert COUNT < 100 or len(SIZES) > jobs.MOST_PROGRAMS
    first, files = 0, server.files()
    for number, size in enumerate(order):
        body, kind = form(video=("me.png", picture(SIZES[size])), background=("green", "blur")[size % 2])
        answer = ask(server.address, "POST", "/v1/jobs", body, Content_Type=kind)
        assert answer.status == 201, answer.body
        job = answer.json
        where = f"/v1/jobs/{job['id']}"
        assert ask(server.address, "GET", f"{where}/matte?wait=1").body[1:4] == b"PNG"
        assert ask(server.address, "DELETE", where).status == 204
        assert server.files() == files
        if number == len(SIZES) - 1:
            first = memory(server)
    assert memory(server) < MORE * first, (first, memory(server))
