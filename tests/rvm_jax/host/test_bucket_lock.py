"""Locks in a bucket: who lives keeps them, who is dead loses them, and two never have one."""

import json
import os
import subprocess
import sys
import threading

import pytest

from rvm_jax.errors import InputError
from rvm_jax.host import bucket_lock, buckets
from rvm_jax.host.bucket_lock import BucketLock, LostError
from rvm_jax.host.locks import HeldError
from tests import fake_bucket

bucket = fake_bucket.bucket


@pytest.fixture
def url(bucket, request):
    return f"{bucket}/{request.node.name}/lock"


def told(url):
    return json.loads(buckets.read(url))


def nothing(_):
    """A pause in which nobody does anything."""


def test_it_is_held_and_then_gone(url):
    with bucket_lock.locked(url) as lock:
        lock.check()
        assert told(url)["owner"].startswith(f"process {os.getpid()} on ")
    assert buckets.read(url) is None


def test_one_that_beats_is_held(url, capsys):
    holder = BucketLock(url, pause=nothing)
    holder.take()
    beats = []

    def pause(seconds):
        beats.append(seconds)
        if len(beats) == 2:
            holder.beat()

    with pytest.raises(HeldError) as held:
        BucketLock(url, period=7, pause=pause).take()
    assert held.value.owner == told(url)["owner"]
    assert beats == [7, 7]
    assert f"process {os.getpid()} on " in capsys.readouterr().err
    holder.check()


def test_one_that_does_not_beat_is_taken_over_and_its_holder_told(url):
    holder, other, pauses = BucketLock(url, pause=nothing), None, []
    holder.take()
    other = BucketLock(url, period=7, pause=pauses.append)
    other.take()
    assert pauses == [7, 7, 7, bucket_lock.MOMENT]
    other.check()
    for use in (holder.check, holder.beat):
        with pytest.raises(LostError, match=r"process \d+ on .* has taken over gs://"):
            use()
    holder.release()  # not what is another's
    other.check()


def test_one_that_is_released_meanwhile_is_taken(url):
    holder, pauses = BucketLock(url, pause=nothing), []
    holder.take()

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 1:
            holder.release()

    BucketLock(url, period=7, pause=pause).take()
    assert pauses == [7, bucket_lock.MOMENT]


def test_of_two_that_take_it_at_once_the_last_has_it(url):
    second = BucketLock(url, pause=nothing)
    first = BucketLock(url, pause=lambda _: second._write())
    with pytest.raises(HeldError):
        first.take()
    second.check()


DIE = """
import sys
from rvm_jax.host.bucket_lock import BucketLock
BucketLock(sys.argv[1], pause=lambda _: None).take()
"""


def test_that_of_a_dead_process_of_this_machine_is_taken_at_once(url):
    subprocess.run([sys.executable, "-c", DIE, url], check=True)
    assert told(url)["process"] != os.getpid()
    pauses = []
    lock = BucketLock(url, pause=pauses.append)
    lock.take()
    assert pauses == [bucket_lock.MOMENT]
    # The same number on another machine says nothing.
    buckets.write(url, json.dumps({**told(url), "process": 2**22 + 1, "machine": "another", "token": "x"}).encode())
    lock.take()
    assert len(pauses) == 1 + bucket_lock.PATIENCE + 1


@pytest.mark.parametrize("content", [b"", b"process 12 on a", b"[]"])
def test_what_is_no_lock_of_ours_is_watched_too(url, content):
    buckets.write(url, content)
    with pytest.raises(HeldError, match="another process"):
        BucketLock(url, pause=lambda _: buckets.write(url, content + b".")).take()
    BucketLock(url, pause=nothing).take()


def test_it_beats_until_another_has_it(url, monkeypatch):
    """Also after a time without a network."""
    beaten, cut, ended = threading.Event(), threading.Event(), threading.Event()
    beat = BucketLock.beat

    def watched(self):
        if not cut.is_set():
            cut.set()
            raise InputError("the network")
        try:
            beat(self)
            beaten.set()
        except LostError:
            ended.set()
            raise

    monkeypatch.setattr(BucketLock, "beat", watched)
    with bucket_lock.locked(url, period=0.01) as lock:
        assert beaten.wait(60)
        buckets.write(url, json.dumps({"owner": "somebody", "token": "theirs"}).encode())
        # The thread may have read before and written after that, as if it had been suspended: then it has the lock.
        while not ended.is_set() and told(url)["token"] != "theirs":
            buckets.write(url, json.dumps({"owner": "somebody", "token": "theirs"}).encode())
        assert ended.wait(60)
        with pytest.raises(LostError, match="somebody has taken over"):
            lock.check()
    assert told(url)["token"] == "theirs"
