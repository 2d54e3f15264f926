"""A layer's input, normalised for what the layer makes of it, and what it makes added to the input.

Both in one pass over memory each way. The normalised input is not kept for the backward pass but
made again there: it costs little, and is a ninth of what a Mamba layer would keep.
Letters: ``b`` documents, ``l`` tokens, ``d`` channels.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from longdoc.kernels import memory, native_library, twice
from longdoc.kernels.arguments import AddArguments
from longdoc.kernels.rms_norm import compiled


def serves(x: Tensor, kind: torch.dtype) -> bool:
    """Say whether :func:`around` takes an input, and gives this type to the layer."""
    types = x.dtype == torch.float32 and kind in (torch.float32, torch.bfloat16)
    plain = x.device.type == "cpu" and types
    return plain and native_library.available() and not torch.compiler.is_compiling()


def around(
    layer: Callable[[Tensor], Tensor],
    x: Tensor,
    weight: Tensor,
    eps: float,
    kind: torch.dtype,
    keep: bool = False,
) -> Tensor:
    """Give ``x + layer(rms_norm(x))``.

    Args:
        layer: Takes and gives ``(b, l, d)``.
        x: Shape ``(b, l, d)``, float32 on a CPU.
        weight: Of the normalisation, shape ``(d,)``.
        eps: Added to the mean square.
        kind: Type of the layer's input, float32 or bfloat16.
        keep: Whether the normalised input is kept, as where all of this is done again anyway.

    Returns:
        Shape ``(b, l, d)``, float32.

    Raises:
        ValueError: The input is not float32, or the weight does not fit.
    """
    flat = x.reshape(-1, x.shape[-1])
    weight = weight.float()
    normed, through = _Normalised.apply(flat, weight, eps, kind == torch.bfloat16)  # type: ignore[no-untyped-call]
    given = normed.view(x.shape)
    if keep or not torch.is_grad_enabled():
        made = layer(given)
    else:
        versions = (_version(flat), _version(weight))
        again = functools.partial(_again, flat, weight, versions, eps, kind == torch.bfloat16)
        # By its place: hooks live as long as what they pack, and must not hold the tensor itself.
        place = (given.data_ptr(), given.numel(), given.dtype, given._version)
        pack = functools.partial(_pack, place)
        with saved_tensors_hooks(pack, functools.partial(_unpack, again)):
            made = layer(given)
    through = through.view(x.shape)
    if made.shape != x.shape or made.dtype not in (torch.float32, torch.bfloat16):
        return through + made
    return add(through, made)


def add(x: Tensor, y: Tensor) -> Tensor:
    """Give the sum in float32, in one pass over memory, where :func:`serves` says yes.

    Args:
        x: Any shape, float32 on a CPU.
        y: The same shape, float32 or bfloat16.

    Raises:
        ValueError: They are something else.
        RuntimeError: The compiled kernels are not there.
    """
    if x.dtype != torch.float32 or y.shape != x.shape or y.dtype not in (x.dtype, torch.bfloat16):
        message = (
            f"x must be float32, and y of its shape and float32 or bfloat16; got {x.dtype}, "
            f"{tuple(x.shape)} and {y.dtype}, {tuple(y.shape)}"
        )
        raise ValueError(message)
    found: Tensor = _Added.apply(x, y)  # type: ignore[no-untyped-call]
    return found


Place = tuple[int, int, torch.dtype, int]
"""A tensor's address, elements, type and version."""


def _pack(place: Place, saved: Tensor) -> torch.Size | tuple[Tensor, int]:
    """Keep the shape alone of what is the normalised input, unchanged, in any view of all of it."""
    found = (saved.data_ptr(), saved.numel(), saved.dtype, saved._version)
    return saved.shape if found == place and saved.is_contiguous() else (saved, saved._version)


def _unpack(again: Callable[[], Tensor], kept: torch.Size | tuple[Tensor, int]) -> Tensor:
    if isinstance(kept, torch.Size):
        return again().view(kept)
    saved, version = kept
    _check_unchanged(saved, version)
    return saved


def _version(x: Tensor) -> int:
    """Count how often a tensor was changed in place; one of inference mode does not count."""
    return 0 if x.is_inference() else x._version


def _check_unchanged(saved: Tensor, version: int) -> None:
    """Refuse a tensor that was changed in place; torch's own check does not reach it here."""
    if _version(saved) != version:
        message = (
            f"a tensor of shape {tuple(saved.shape)} that the backward pass needs was modified by "
            f"an inplace operation after the forward pass"
        )
        raise RuntimeError(message)


def _again(x: Tensor, weight: Tensor, versions: tuple[int, int], eps: float, half: bool) -> Tensor:
    for part, version in zip((x, weight), versions, strict=True):
        _check_unchanged(part, version)
    with torch.no_grad():
        return compiled.normalise(x.detach(), weight.detach(), eps, half)[0]


class _Normalised(torch.autograd.Function):
    """The normalised input, and the input itself, whose gradients meet in one kernel."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, eps: float, half: bool
    ) -> tuple[Tensor, Tensor]:
        out, scale = compiled.normalise(x, weight, eps, half)
        ctx.save_for_backward(x, weight, scale)
        ctx.settings = eps, half
        ctx.set_materialize_grads(False)
        return out, x.view_as(x)

    @staticmethod
    def backward(ctx: Any, dout: Tensor | None, through: Tensor | None) -> tuple[Any, ...]:
        x, weight, scale = ctx.saved_tensors
        if twice.wanted(dout, through):
            dx, dweight = twice.gradients(
                lambda x, weight: (compiled.followed(x, weight, *ctx.settings), x),
                (x, weight), (dout, through), ctx.needs_input_grad[:2],
            )  # fmt: skip
            return dx, dweight, None, None
        if dout is None:
            return through, None, None, None
        dx, dweight = compiled.normalise_backward(dout, x, weight, scale, through)
        return dx, dweight, None, None


class _Added(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.kind = y.dtype
        x, y = x.contiguous(), y.contiguous()
        out = memory.empty(x.shape, x.dtype, x.device)
        arguments = AddArguments(count=x.numel(), half=y.dtype == torch.bfloat16)
        native_library.fill(arguments, {"x": x, "y": y, "out": out})
        native_library.call("longdoc_add", arguments)
        return out

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor, Tensor]:
        return dout, dout.to(ctx.kind)
