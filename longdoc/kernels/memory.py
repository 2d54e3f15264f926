"""Memory for large tensors that is used again as it is, from layer to layer and step to step.

What a pass through many layers keeps and what it soon gives up alternate. A general allocator puts
the next of the one into the hole that one of the other has left, and what remains of the hole fits
nothing any more: a training step of 4 GB of tensors then holds 5. Here a block is handed out whole,
and is free again when the last tensor in it is gone. Only after :func:`keep` does any of this
happen; before, tensors come from torch's allocator.
"""

import ctypes
import mmap
import os
import threading
import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

SMALLEST = 2**20
"""Bytes below which tensors come from torch's allocator."""
MOST_WASTE = 4
"""A block serves what needs at least this part of it."""


class _Block:
    """A mapping of its own, which a forked child gets a copy of, as of all other memory."""

    def __init__(self, size: int) -> None:
        self.size = size
        private = getattr(mmap, "MAP_PRIVATE", 0)
        if private:
            self.map = mmap.mmap(-1, size, flags=private | mmap.MAP_ANONYMOUS)
        else:  # Windows, which does not fork
            self.map = mmap.mmap(-1, size)
        self.kind = ctypes.c_char * size


class Blocks:
    """Blocks of memory, free or handed out.

    Attributes:
        active: Whether tensors are put here at all.
        lent: Bytes of the blocks that tensors live in.
    """

    def __init__(self) -> None:
        self.active = False
        self.lent = 0
        self._free: list[_Block] = []
        self._renew_lock()
        if hasattr(os, "register_at_fork"):
            # Another thread of the parent may hold it, and there is no such thread in the child.
            weak = weakref.WeakMethod(self._renew_lock)
            os.register_at_fork(after_in_child=lambda: (weak() or (lambda: None))())

    def _renew_lock(self) -> None:
        self._lock = threading.RLock()

    def held(self) -> int:
        """Count the bytes of all blocks, free ones among them."""
        with self._lock:
            return self.lent + sum(block.size for block in self._free)

    def lend(self, size: int) -> ctypes.Array[ctypes.c_char]:
        """Hand a block out; it comes back by itself when nobody refers to the result any more.

        Raises:
            MemoryError: The system has no more, not even with all free blocks given back.
        """
        with self._lock:
            fits = [b for b in self._free if size <= b.size <= MOST_WASTE * size]
            block = min(fits, key=lambda b: b.size, default=None)
            if block is None:
                block = self._new(rounded(size))
            else:
                self._free.remove(block)
            self.lent += block.size
        lease = block.kind.from_buffer(block.map)
        weakref.finalize(lease, self._take_back, block).atexit = False
        return lease

    def _new(self, size: int) -> _Block:
        """Map a block; as much of what is free goes first, beginning with the smallest."""
        self._free.sort(key=lambda block: block.size)
        gone = 0
        while self._free and gone < size:
            gone += self._free.pop(0).size
        try:
            return _Block(size)
        except OSError:
            self._free.clear()
        try:
            return _Block(size)
        except OSError as error:
            message = f"no memory for a tensor of {size} bytes beside {self.lent} that are in use"
            raise MemoryError(message) from error

    def _take_back(self, block: _Block) -> None:
        with self._lock:
            self.lent -= block.size
            self._free.append(block)

    def release(self) -> None:
        """Give the free blocks back to the system."""
        with self._lock:
            self._free.clear()


BLOCKS = Blocks()


def rounded(size: int) -> int:
    """Round bytes up, by an eighth at most, so that documents of like length share blocks.

    Example:
        >>> rounded(2**20 + 1) == 2**20 + 2**17
        True
    """
    step = max(mmap.PAGESIZE, 2 ** (size.bit_length() - 1) // 8)
    return -(-size // step) * step


def keep() -> None:
    """Put large tensors of the kernels into blocks from now on, in this process."""
    BLOCKS.active = True


def empty(shape: Sequence[int], kind: torch.dtype, device: torch.device) -> Tensor:
    """Give a tensor whose elements are not set, as ``torch.empty`` does; it cannot be resized.

    Args:
        shape: Any.
        kind: Its type.
        device: Blocks serve the CPU.
    """
    count = 1
    for part in shape:
        count *= int(part)
    size = count * kind.itemsize
    if not BLOCKS.active or device.type != "cpu" or size < SMALLEST:
        return torch.empty(tuple(shape), dtype=kind, device=device)
    lease = BLOCKS.lend(size)
    flat = torch.frombuffer(lease, dtype=kind, count=count)
    # Not a view for autograd, so that it may be changed in place like any other result.
    return torch.ops.aten._unsafe_view(flat, tuple(shape))
