"""Finds and loads the compiled kernels, and says why when it cannot."""

import ctypes
import functools
import importlib.machinery
import os
from pathlib import Path

SWITCH = "LONGDOC_NATIVE"
WIDTHS = {16: "AVX-512", 8: "AVX2", 4: "baseline"}


@functools.cache
def load() -> ctypes.CDLL | None:
    """Load the compiled kernels; None where they were not built, or LONGDOC_NATIVE=0."""
    if os.environ.get(SWITCH) == "0" or _file() is None:
        return None
    try:
        return ctypes.CDLL(str(_file()))
    except OSError:
        return None


def _file() -> Path | None:
    folder = Path(__file__).parent
    for ending in importlib.machinery.EXTENSION_SUFFIXES:
        if (folder / f"_native{ending}").exists():
            return folder / f"_native{ending}"
    return None


@functools.cache
def width() -> int:
    """Give the channels a vector holds: 16 (AVX-512), 8 (AVX2) or 4."""
    library = load()
    return int(library.longdoc_best_width()) if library else 0


def reason() -> str:
    """Say which kernels run, and why, in a sentence without its full stop."""
    if os.environ.get(SWITCH) == "0":
        return f"blocked tensor operations, because {SWITCH}=0 is set"
    if _file() is None:
        return (
            "blocked tensor operations, because the compiled kernels were not built: "
            "install a C++ compiler and install longdoc again"
        )
    if load() is None:
        return f"blocked tensor operations, because {_file()} could not be loaded"
    return f"compiled kernels, {WIDTHS[width()]}"
