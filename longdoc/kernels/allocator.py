"""Keeps freed memory instead of handing it back to the system after every large tensor.

glibc maps each large allocation afresh and unmaps it when it is freed; every page is then faulted
in and zeroed again, which costs a CPU more than many an operation on the tensor itself. Two
settings of glibc's ``mallopt`` stop that. They take effect for the process that asks for them; no
environment variable is needed.
"""

import ctypes
import functools
import gc
import os
import platform
from dataclasses import dataclass
from pathlib import Path

from longdoc.kernels import memory

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Names and numbers of glibc's malloc.h."""


@functools.cache
def keep_freed_memory() -> bool:
    """Ask the allocator to keep freed memory; says whether it agreed (glibc only).

    Large tensors of the kernels have memory of their own from then on, which is kept as well (see
    :mod:`longdoc.kernels.memory`).
    """
    memory.keep()
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, -1))


class _Info(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd",
            "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    )  # fmt: skip


SPARE = 900 * 2**20
"""Bytes that may lie about unused, the code of the process among them. Below it fragmentation is
left alone, since every page that is given back must be faulted in again."""
GROWTH = 1.25
"""How much more than a step needs may be held before it is given back: our choice, between holes
that are never closed and pages that are faulted in after every step."""
FIRST_STEPS = 4
"""Steps after memory was given back that tell what one needs: lengths differ, holes are few."""


@dataclass
class _Step:
    """What a step of the work at hand needs, in bytes held, as far as is known.

    Between steps nearly all memory is free, the holes and what the next step will use; only what
    is held a few steps after all of it was given back tells the two apart.

    Attributes:
        needed: The most that was held after one of the first steps.
        since: Steps since memory was given back.
    """

    needed: int = 0
    since: int = 0

    def ends_with_excess(self, held: int) -> bool:
        """Say whether much more is held than a step needs, and learn of it from the first ones."""
        self.since += 1
        if self.since <= FIRST_STEPS:
            self.needed = max(self.needed, held)
        return held > GROWTH * self.needed


_STEP = _Step()


def give_back_excess(*, within_step: bool = False) -> bool:
    """Give memory back if much more is held than a step needs; says whether it was.

    Does something only after :func:`keep_freed_memory`. Large tensors of unlike sizes leave holes
    in the heap that none of them fits; a pass through 24 layers can hold twice what it uses.

    Args:
        within_step: Whether a step is going on, so that what is held and not used is excess, and
            memory counts more than the time it takes to have it again.
    """
    if not keep_freed_memory.cache_info().currsize or not keep_freed_memory():
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):  # glibc before 2.33
        return False
    library.mallinfo2.restype = _Info
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    held = pages * os.sysconf("SC_PAGE_SIZE")
    excess = within_step or _STEP.ends_with_excess(held)
    if not excess or held - library.mallinfo2().uordblks - memory.BLOCKS.lent < SPARE:
        return False
    memory.BLOCKS.release()
    _STEP.since = 0
    return bool(library.malloc_trim(0))


def give_back() -> None:
    """Give memory that is free back to the system, so that a peak is not somebody else's."""
    gc.collect()
    _STEP.needed = _STEP.since = 0
    memory.BLOCKS.release()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
