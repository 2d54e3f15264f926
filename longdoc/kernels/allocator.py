"""Keeps freed memory instead of handing it back to the system after every large tensor.

glibc maps each large allocation afresh and unmaps it when it is freed; every page is then faulted
in and zeroed again, which costs a CPU more than many an operation on the tensor itself. Two
settings of glibc's ``mallopt`` stop that. They take effect for the process that asks for them; no
environment variable is needed.
"""

import ctypes
import functools
import gc
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Names and numbers of glibc's malloc.h."""


@functools.cache
def keep_freed_memory() -> bool:
    """Ask the allocator to keep freed memory; says whether it agreed (glibc only)."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def give_back() -> None:
    """Give memory that is free back to the system, so that a peak is not somebody else's."""
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
