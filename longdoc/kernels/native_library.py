"""Finds and loads the compiled kernels, says why when it cannot, and calls them."""

import ctypes
import functools
import importlib.machinery
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

SWITCH = "LONGDOC_NATIVE"
LEVELS = ("baseline", "AVX2", "AVX-512", "AVX-512 with bfloat16")
"""What the kernels are compiled for, by the number they know it by."""
SPAN, TILE, MOST_STATES = 128, 64, 256
"""Tokens between two kept states, tokens a task of what is not recurrent, states a channel."""
LOADED_BY = os.getpid()
"""The process that imported this; a forked child has another number."""
PANEL = 32
"""Columns that a product's packed factor has room for at a time."""


def _fields(numbers: str, pointers: str) -> list[tuple[str, type]]:
    counts = [(name, ctypes.c_int64) for name in numbers.split()]
    return [*counts, *((name, ctypes.c_void_p) for name in pointers.split())]


class ScanArguments(ctypes.Structure):
    """Mirrors the structure of this name in ``native/kernels.cpp``, as the next ones do."""

    _fields_ = _fields(
        "documents d n groups ranges range softplus half u_t delta_t z_t dout_t dz_t",
        "starts span_starts u delta z A B C D bias initial out last states dout dlast "
        "du ddelta dz dA dB dC dD dbias dinitial",
    )


class ConvArguments(ctypes.Structure):
    """What the convolution is called with."""

    _fields_ = _fields(
        "d k tiles silu half x_t dout_t dx_t",
        "starts tile_starts tile_documents x weight bias initial out dout dx dweight dinitial",
    )


class NormArguments(ctypes.Structure):
    """What the normalisation is called with."""

    _fields_ = (
        *_fields("tokens d half", ""),
        ("eps", ctypes.c_double),
        *_fields("", "x weight out scale dout through dx dweight"),
    )


class DropoutArguments(ctypes.Structure):
    """What dropout is called with."""

    _fields_ = (
        *_fields("count half seed add", ""),
        ("rate", ctypes.c_double),
        *_fields("", "x out"),
    )


class MergeArguments(ctypes.Structure):
    """What a low-rank update is merged into a weight with."""

    _fields_ = (
        *_fields("rows columns rank half transposed", ""),
        ("scaling", ctypes.c_double),
        *_fields("", "weight a b out"),
    )


class AddArguments(ctypes.Structure):
    """What two tensors are added with."""

    _fields_ = _fields("count half", "x y out")


class LowRankArguments(ctypes.Structure):
    """What the gradients of a low-rank update are made with."""

    _fields_ = _fields(
        "tokens inputs outputs rank part half x_t dy_t",
        "x dy a b da db down",
    )


class ProductArguments(ctypes.Structure):
    """What two matrices of bfloat16 are multiplied with."""

    _fields_ = (
        *_fields("m n k narrow add parts a_m a_k b_k b_n", ""),
        ("scaling", ctypes.c_double),
        *_fields("", "a b bias out packed"),
    )


class AttentionArguments(ctypes.Structure):
    """What attention is called with."""

    _fields_ = (
        *_fields("documents heads tokens width half seed mask_b mask_t window", ""),
        *((name, ctypes.c_double) for name in ("scale", "rate")),
        *_fields("", "q k v mask out kept dout dq dk dv"),
    )


class GeluArguments(ctypes.Structure):
    """What GELU is called with."""

    _fields_ = _fields("count half tanh", "x dout out")


class AddNormArguments(ctypes.Structure):
    """What a sum is normalised with."""

    _fields_ = (
        *_fields("tokens d half seed", ""),
        *((name, ctypes.c_double) for name in ("eps", "rate")),
        *_fields("", "x residual weight bias sum kept out dout dx dresidual dweight dbias"),
    )


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
    know no derivative, and take a tangent for none.
    """
    level: int = getattr(torch.autograd.forward_ad, "_current_level", -1)  # private to torch
    return level >= 0 or torch._C._are_functorch_transforms_active()


def may_checkpoint() -> bool:
    """Say whether gradients are wanted, and ``torch.utils.checkpoint`` may make them.

    It is made of saved tensor hooks, which ``torch.func`` has not.
    """
    return torch.is_grad_enabled() and not is_transformed()


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


def fill(arguments: ctypes.Structure, tensors: Mapping[str, Tensor | None]) -> None:
    """Set pointers; the tensors must live until the call is over."""
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
            setattr(arguments, name, part.data_ptr())


def call(function: str, arguments: ctypes.Structure) -> None:
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
    return starts.contiguous(), _parts_before(starts, size)


def _parts_before(starts: Tensor, size: int) -> Tensor:
    counts = (starts.diff() + size - 1) // size
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


@functools.lru_cache(maxsize=64)
def _whole_parted(b: int, length: int, size: int) -> tuple[Tensor, Tensor]:
    starts = torch.arange(b + 1, dtype=torch.int64, device="cpu") * length
    return starts, _parts_before(starts, size)
