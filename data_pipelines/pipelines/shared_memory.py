"""Memory that worker processes share, without a name: it is gone with the last of them, however that ends."""

import mmap
import os
import tempfile
import weakref
from typing import NamedTuple

import numpy as np

SMALLEST = 2**16


class Block(NamedTuple):
    """A part of the memory: where it begins, and how large it is."""

    start: int
    size: int


class SharedMemory:
    """A file in memory, of which blocks are lent; a block is lent again when no array sees it any more.

    On Linux it is a memfd: it is not bounded by the size of /dev/shm, which containers keep at 64 MB.

    Attributes:
        descriptor: Of the file. A process that inherits it can `map_block`.
    """

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self.descriptor = os.memfd_create("rvm-samples")
        else:
            with tempfile.TemporaryFile() as file:
                self.descriptor = os.dup(file.fileno())
        self._end = 0
        self._free: dict[int, list[tuple[Block, mmap.mmap]]] = {}

    def borrow(self, size: int) -> tuple[np.ndarray, Block]:
        """Memory of so many bytes or more, uint8 [bytes], and where it is."""
        # Batches have many shapes, and a block fits several. What is not written to takes no memory.
        size = max(SMALLEST, 1 << (size - 1).bit_length())
        free = self._free.setdefault(size, [])
        block, mapped = free.pop() if free else self._new(size)
        memory = np.frombuffer(mapped, np.uint8)
        weakref.finalize(memory, free.append, (block, mapped)).atexit = False
        return memory, block

    def trim(self) -> None:
        """Give the blocks that nobody has back to the system, where it takes them."""
        for free in self._free.values() if hasattr(mmap, "MADV_REMOVE") else ():
            while free:
                _, mapped = free.pop()
                mapped.madvise(mmap.MADV_REMOVE)

    def close(self) -> None:
        """Arrays that somebody still has stay as they are."""
        os.close(self.descriptor)
        self._free.clear()

    def _new(self, size: int) -> tuple[Block, mmap.mmap]:
        block = Block(self._end, size)
        self._end += size
        os.ftruncate(self.descriptor, self._end)
        return block, map_block(self.descriptor, block)


def map_block(descriptor: int, block: Block) -> mmap.mmap:
    """A block, in the memory of this process."""
    return mmap.mmap(descriptor, block.size, offset=block.start)
