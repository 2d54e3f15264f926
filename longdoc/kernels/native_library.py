"""Finds and loads the compiled kernels, says why when it cannot, and calls them."""

import ctypes
import functools
import importlib.machinery
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from longdoc.kernels.arguments import (
    AddArguments,
    AddNormArguments,
    Arguments,
    AttentionArguments,
    ConvArguments,
    DropoutArguments,
    GeluArguments,
    LowRankArguments,
    MergeArguments,
    NormArguments,
    ProductArguments,
    ScanArguments,
    check,
)
from longdoc.kernels.documents import check_starts

SWITCH = "LONGDOC_NATIVE"
LEVELS = ("baseline", "AVX2", "AVX-512", "AVX-512 with bfloat16")
"""What the kernels are compiled for, by the number they know it by."""
SPAN, TILE, MOST_STATES = 128, 64, 256
"""Tokens between two kept states, tokens a task of what is not recurrent, states a channel."""
LOADED_BY = os.getpid()
"""The process that imported this; a forked child has another number."""
PANEL = 32
"""Columns that a product's packed factor has room for at a time."""


RECORDS = (
    *(ScanArguments, ConvArguments, NormArguments, DropoutArguments),
    *(MergeArguments, AddArguments, LowRankArguments, ProductArguments, AttentionArguments),
    *(GeluArguments, AddNormArguments),
)
SIZES = (SPAN, TILE, MOST_STATES, PANEL, *map(ctypes.sizeof, RECORDS))


@functools.cache
def load() -> ctypes.CDLL | None:
    """Load the compiled kernels; None where they are not there or of use, or LONGDOC_NATIVE=0."""
    if reason_against():
        return None
    library = _open()
    # A forked process has none of the threads that torch may have begun before.
    entry = _pool() if os.getpid() == LOADED_BY else None
    if entry:
        library.longdoc_use_pool(ctypes.c_void_p(entry))
    return library


def _pool() -> int | None:
    """Find the entry of the GNU OpenMP library that torch runs on; None where it is another."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return None
    lines = maps.read_text(errors="replace").splitlines()
    loaded = {line.split(None, 5)[5] for line in lines if "libgomp" in line}
    # scikit-learn brings one of its own.
    files = [file for file in loaded if file.startswith(str(Path(torch.__file__).parent))]
    if len(files) != 1:
        return None
    try:
        entry = ctypes.CDLL(files.pop()).GOMP_parallel
    except (OSError, AttributeError):
        return None
    return ctypes.cast(entry, ctypes.c_void_p).value


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def available() -> bool:
    """Say whether the compiled kernels run; not while torch must see every operation itself."""
    return load() is not None and not _is_recorded() and not is_transformed()


def _is_recorded() -> bool:
    """Say whether operators are noted down (``torch.jit.trace``, ``make_fx``), or tensors fake.

    torch's own operators must be seen then. ``torch.compile`` and ``torch.export`` are another
    matter: they know ours.
    """
    if torch.compiler.is_compiling():
        return False
    if torch._C._is_tracing():  # what torch.jit.is_tracing asks
        return True
    try:
        kinds = torch._C._TorchDispatchModeKey
        modes = [torch._C._get_dispatch_mode(kind) for kind in (kinds.FAKE, kinds.PROXY)]
    except AttributeError:  # private to torch
        return False
    return any(mode is not None for mode in modes)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def is_transformed() -> bool:
    """Say whether ``torch.func`` transforms what runs, or tangents are carried forward.

    Both look into torch's operations alone, also within ``torch.compile``: of our operators they
    know no derivative, and take a tangent for none. A graph keeps the answer of when it was made:
    ``torch.compile`` makes another for other transforms, and operators refuse tangents that come
    later (:func:`without_tangents`).
    """
    return _carries_tangents() or torch._C._are_functorch_transforms_active()


def is_counted() -> bool:
    """Say whether a dispatch mode looks at torch's operations (``FlopCounterMode`` and others).

    Products are then torch's plain ones, which counters know. Nothing else changes, neither what is
    kept for the way back nor what dropout draws, as a mode may be on in one direction alone.
    """
    if torch.compiler.is_compiling():
        return False
    count: int = getattr(torch._C, "_len_torch_dispatch_stack", int)()  # private to torch
    return count > 0


def _carries_tangents() -> bool:
    level: int = getattr(torch.autograd.forward_ad, "_current_level", -1)  # private to torch
    return level >= 0


Function = TypeVar("Function", bound=Callable[..., Any])


def without_tangents(function: Function) -> Function:
    """Let what becomes an operator refuse to run in a graph where tangents are carried forward.

    They would be left out without a word. An operator does not see whether its inputs have any, so
    it refuses all calls within ``forward_ad.dual_level()`` and ``torch.func.jvp``.
    """

    @functools.wraps(function)
    def checked(*arguments: Any, **named: Any) -> Any:
        if _carries_tangents():
            message = (
                "a graph with longdoc's operators has no tangents and does not run within "
                "torch.func.jvp or forward_ad.dual_level(); carry them through the model it is of"
            )
            raise RuntimeError(message)
        return function(*arguments, **named)

    return cast(Function, checked)


def may_checkpoint() -> bool:
    """Say whether gradients are wanted, and ``torch.utils.checkpoint`` may make them.

    It is made of saved tensor hooks, which ``torch.func`` has not; in what is exported strictly it
    does not run.
    """
    return torch.is_grad_enabled() and not (is_transformed() or torch.compiler.is_exporting())


@functools.cache
def _open() -> ctypes.CDLL:
    return ctypes.CDLL(str(_file()))


def _file() -> Path | None:
    folder = Path(__file__).parent
    for ending in importlib.machinery.EXTENSION_SUFFIXES:
        if (folder / f"_native{ending}").exists():
            return folder / f"_native{ending}"
    return None


@functools.cache
def level() -> int:
    """Give the place in ``LEVELS`` of the best that this processor has."""
    library = load()
    return int(library.longdoc_best_level()) if library else 0


@functools.cache
def multiplies_in_tiles() -> bool:
    """Say whether the compiled kernels multiply bfloat16 in tiles (AMX)."""
    library = load()
    return bool(library and library.longdoc_tiles())


def reason_against() -> str:
    """Say why the compiled kernels do not run; empty where they do."""
    if os.environ.get(SWITCH) == "0":
        return f"{SWITCH}=0 is set"
    if _file() is None:
        return (
            "the compiled kernels were not built: install a C++ compiler and install longdoc again"
        )
    try:
        size = _open().longdoc_size
    except (OSError, AttributeError):
        return f"{_file()} could not be loaded: install longdoc again"
    size.restype = ctypes.c_int64
    if tuple(size(place) for place in range(len(SIZES))) != SIZES:
        return f"{_file()} was built from other sources: install longdoc again"
    return ""


def reason() -> str:
    """Say which kernels run, and why, in a sentence without its full stop."""
    against = reason_against()
    return (
        f"blocked tensor operations, because {against}"
        if against
        else (f"compiled kernels, {LEVELS[level()]}{' and AMX' if multiplies_in_tiles() else ''}")
    )


def fill(arguments: Arguments, tensors: Mapping[str, Tensor | None]) -> None:
    """Set pointers; the tensors must live until the call is over.

    Raises:
        RuntimeError: A tensor holds no numbers where it says.
        ValueError: It is not what the kernel would take it for.
    """
    for name, part in tensors.items():
        if part is not None:
            if isinstance(part, FakeTensor):
                message = f"{name} is a fake tensor, which holds nothing; use it within its mode"
                raise RuntimeError(message)
            if part.is_neg() or part._is_zerotensor():
                message = f"{name} is a view without numbers of its own; give a copy"
                raise RuntimeError(message)
            if part.device.type != "cpu":
                message = f"{name} must be on the cpu; got {part.device}"
                raise ValueError(message)
            check(arguments, name, part)
            setattr(arguments, name, part.data_ptr())


def call(function: str, arguments: Arguments) -> None:
    """Run a kernel with as many threads as torch has; the interpreter lock is free meanwhile.

    Raises:
        RuntimeError: The kernels are not there.
        MemoryError: A workspace could not be had.
    """
    library = load()
    if library is None:
        message = f"the compiled kernels cannot run: {reason_against()}"
        raise RuntimeError(message)
    if not getattr(library, function)(ctypes.byref(arguments), level(), torch.get_num_threads()):
        message = f"{function}: no memory for its workspace"
        raise MemoryError(message)


def rows(x: Tensor) -> Tensor:
    """Give ``(b, l, d)`` such that channels lie side by side and tokens at one distance."""
    apart = row_stride(x)
    ordered = x.stride(2) == 1 and (x.shape[0] == 1 or x.stride(0) == x.shape[1] * apart)
    return x if ordered else x.clone(memory_format=torch.contiguous_format)


def row_stride(x: Tensor) -> int:
    """Give the elements between two tokens; a dimension of one has no say in it."""
    return x.stride(1) if x.shape[1] > 1 else x.stride(0)


def parted(x: Tensor, starts: Tensor | None, size: int) -> tuple[Tensor, Tensor]:
    """Say where documents begin, and how parts of ``size`` tokens, none shared, are numbered.

    Args:
        x: Shape ``(b, l, d)``.
        starts: As in ``documents.py``; every row of ``x`` is a document without.
        size: Tokens a part.

    Returns:
        The places of the first tokens and the end; the parts before each document and in all.
        Both of shape ``(documents + 1,)``.
    """
    if starts is None:
        return _whole_parted(x.shape[0], x.shape[1], size)
    check_starts(starts, x.shape[0], x.shape[1])
    return starts.contiguous(), _parts_before(starts, size)


def _parts_before(starts: Tensor, size: int) -> Tensor:
    counts = (starts.diff() + size - 1) // size
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


@functools.lru_cache(maxsize=64)
def _whole_parted(b: int, length: int, size: int) -> tuple[Tensor, Tensor]:
    starts = torch.arange(b + 1, dtype=torch.int64, device="cpu") * length
    return starts, _parts_before(starts, size)
