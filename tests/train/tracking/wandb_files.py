"""What W&B has recorded offline: the records of a .wandb file.

They are protocol buffers in LevelDB's log format, whose blocks of 32 KB split them. W&B has no reader of it for others,
and may change it. Then this is what has to be mended, and not the tracker.
"""

import json
import struct

import pytest

HEADER = b":W&B\xe1\xbe\x00"


def records(path):
    """All of them, in order."""
    internal = pytest.importorskip("wandb.proto.wandb_internal_pb2", reason="W&B has other protocol buffers now")
    data, position, parts = path.read_bytes(), len(HEADER), b""
    if not data.startswith(HEADER):
        pytest.skip(f"W&B {internal.__name__} writes another format now: {data[:7]!r}")
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        _, length, kind = struct.unpack("<IHB", data[position : position + 7]) if left >= 7 else (0, 0, 0)
        if kind == 0:
            position += left
            continue
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record, parts = internal.Record.FromString(parts), b""
            yield record


def history(path):
    """What was logged, a step each."""
    for record in records(path):
        if record.WhichOneof("record_type") == "history":
            yield values(record.history.item)


def values(items):
    """The items of a record."""
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
