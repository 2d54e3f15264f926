"""The selective scan through the compiled kernel, forward and backward.

Letters as in ``reference.py``. The kernel works in float32 with channels side by side, so inputs
that come as transposed views of ``(b, l, d)`` tensors, as a projection makes them, are not copied.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor

from longdoc.kernels import native_library

CHUNK, RANGE, MOST_STATES = 32, 128, 256
COUNTS = ("b", "d", "l", "n", "groups", "softplus", "chunks", "ranges")
STRIDES = ("u_b", "u_t", "delta_b", "delta_t", "z_b", "z_t")
POINTERS = (
    *("u", "delta", "A", "B", "C", "D", "z", "bias", "initial", "out", "last", "states"),
    *("dout", "dlast", "du", "ddelta", "dA", "dB", "dC", "dD", "dz", "dbias", "dinitial"),
)


class ScanArguments(ctypes.Structure):
    """Mirrors the structure of this name in ``native/kernels.cpp``, field by field."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in (*COUNTS, *STRIDES)),
        *((name, ctypes.c_void_p) for name in POINTERS),
    ]


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    initial_state: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Scan in one fused pass.

    Args and result are those of :func:`longdoc.kernels.selective_scan`; B and C must vary over
    tokens, and float64 is not served (see ``choose.py``).
    """
    if B.dim() == 3:
        B = B[:, None]
    if C.dim() == 3:
        C = C[:, None]
    arguments = (u, delta, A, B, C, D, z, delta_bias, initial_state, delta_softplus)
    y, last = _Scan.apply(*arguments)  # type: ignore[no-untyped-call]
    return (y, last) if return_last_state else y


def _channels_last(x: Tensor | None) -> Tensor | None:
    """Give a float32 ``(b, l, d)`` view or copy whose channels lie side by side."""
    if x is None:
        return None
    x = x.float().transpose(1, 2)
    return x if x.stride(2) == 1 else x.contiguous()


def _states_last(part: Tensor) -> Tensor:
    """Give B or C as contiguous float32 ``(b, g, l, n)``."""
    return part.float().transpose(2, 3).contiguous()


def _plain(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.float().contiguous()


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, delta: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        A, B, C, D, z, bias, initial, softplus = rest
        kept = {
            "u": _channels_last(u), "delta": _channels_last(delta), "z": _channels_last(z),
            "A": _plain(A), "B": _states_last(B), "C": _states_last(C),
            "D": _plain(D), "bias": _plain(bias), "initial": _plain(initial),
        }  # fmt: skip
        b, d, length = u.shape
        n = A.shape[1]
        out = torch.empty(b, length, d)
        last = torch.empty(b, d, n)
        results = {"out": out, "last": last}
        counts = _counts(u, n, B.shape[1], softplus)
        if any(ctx.needs_input_grad):
            results["states"] = torch.empty(b, counts["chunks"], d, n)
        _call("longdoc_scan_forward", counts, {**kept, **results})
        ctx.counts, ctx.names = counts, [name for name in kept if kept[name] is not None]
        ctx.types = [
            x.dtype if x is not None else None for x in (u, delta, A, B, C, D, z, bias, initial)
        ]
        ctx.save_for_backward(*(kept[name] for name in ctx.names), results.get("states"))
        return out.transpose(1, 2).to(u.dtype), last

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        dout, dlast = gradients
        *saved, states = ctx.saved_tensors
        inputs = {**dict(zip(ctx.names, saved, strict=True)), "states": states}
        counts = ctx.counts
        b, d, length, n = (counts[name] for name in ("b", "d", "l", "n"))
        tasks = b * counts["groups"] * counts["ranges"]
        made = {
            "du": torch.empty(b, length, d), "ddelta": torch.empty(b, length, d),
            "dA": torch.empty(b, d, n), "dD": torch.empty(b, d), "dbias": torch.empty(b, d),
            "dB": torch.empty(tasks, length, n), "dC": torch.empty(tasks, length, n),
            "dz": torch.empty(b, length, d) if "z" in inputs else None,
            "dinitial": torch.empty(b, d, n) if "initial" in inputs else None,
        }  # fmt: skip
        given = {"dout": dout.float().transpose(1, 2).contiguous(), "dlast": _plain(dlast)}
        _call("longdoc_scan_backward", counts, {**inputs, **given, **made})
        return (*_collect(ctx, made), None)


def _collect(ctx: Any, made: dict[str, Tensor | None]) -> list[Tensor | None]:
    """Sum what tasks and documents made, and give every gradient its input's shape and type."""
    counts = ctx.counts
    shape = (counts["b"], counts["groups"], counts["ranges"], counts["l"], counts["n"])
    found: dict[str, Tensor | None] = dict(made)
    for name in ("dA", "dD", "dbias"):
        part = made[name]
        found[name] = part.sum(0) if part is not None else None
    for name in ("dB", "dC"):
        part = made[name]
        found[name] = part.view(shape).sum(2).transpose(2, 3) if part is not None else None
    for name in ("du", "ddelta", "dz"):
        part = made[name]
        found[name] = part.transpose(1, 2) if part is not None else None
    order = ("du", "ddelta", "dA", "dB", "dC", "dD", "dz", "dbias", "dinitial")
    given = []
    for name, kind in zip(order, ctx.types, strict=True):
        part = found[name]
        given.append(part.to(kind) if kind is not None and part is not None else None)
    return given


def _counts(u: Tensor, n: int, groups: int, softplus: bool) -> dict[str, int]:
    b, d, length = u.shape
    return {
        "b": b, "d": d, "l": length, "n": n, "groups": groups, "softplus": int(softplus),
        "chunks": -(-length // CHUNK), "ranges": -(-(d // groups) // RANGE),
    }  # fmt: skip


def _call(function: str, counts: dict[str, int], tensors: dict[str, Tensor | None]) -> None:
    """Hand pointers to the kernel; ctypes lets go of the interpreter lock meanwhile."""
    arguments = ScanArguments(**counts)
    for name in ("u", "delta", "z"):
        part = tensors.get(name)
        if part is not None:
            setattr(arguments, f"{name}_b", part.stride(0))
            setattr(arguments, f"{name}_t", part.stride(1))
    for name in POINTERS:
        part = tensors.get(name)
        if part is not None:
            setattr(arguments, name, part.data_ptr())
    library = native_library.load()
    if library is None:
        message = "the compiled kernels are not there"
        raise RuntimeError(message)
    getattr(library, function)(
        ctypes.byref(arguments), native_library.width(), torch.get_num_threads()
    )
