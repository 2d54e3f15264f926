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


def give_back_excess() -> bool:
    """Give memory back if much more is held than is used; says whether it was.

    Does something only after :func:`keep_freed_memory`. Large tensors of unlike sizes leave holes
    in the heap that none of them fits; a pass through 24 layers can hold twice what it uses.
    """
    if not keep_freed_memory.cache_info().currsize or not keep_freed_memory():
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):  # glibc before 2.33
        return False
    library.mallinfo2.restype = _Info
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    held = pages * os.sysconf("SC_PAGE_SIZE")
    if held - library.mallinfo2().uordblks - memory.BLOCKS.lent < SPARE:
        return False
    memory.BLOCKS.release()
    return bool(library.malloc_trim(0))


def give_back() -> None:
    """Give memory that is free back to the system, so that a peak is not somebody else's."""
    gc.collect()
    memory.BLOCKS.release()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
