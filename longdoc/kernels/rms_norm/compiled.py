"""Root-mean-square normalisation through the compiled kernel, each way in one pass over memory."""

import functools
from typing import Any

import torch
from torch import Tensor

from longdoc.kernels import memory, native_library, twice
from longdoc.kernels.arguments import NormArguments
from longdoc.kernels.native_library import TILE
from longdoc.kernels.rms_norm import reference


def rms_norm(x: Tensor, weight: Tensor, eps: float, kind: torch.dtype | None = None) -> Tensor:
    """Divide each token by its root mean square.

    Args and result are those of :func:`longdoc.kernels.rms_norm`; float64 is not served.
    """
    kind = kind or x.dtype
    flat = x.float().reshape(-1, x.shape[-1])
    run: Any = norm_forward if torch.compiler.is_compiling() else _Norm.apply
    out, _ = run(flat, weight.float(), eps, kind == torch.bfloat16)
    return out.view(x.shape).to(kind)


def normalise(x: Tensor, weight: Tensor, eps: float, half: bool) -> tuple[Tensor, Tensor]:
    """Normalise ``(tokens, d)``; gives the output and each token's factor."""
    floats = x.dtype == weight.dtype == torch.float32
    if not floats or x.dim() != 2 or weight.shape != x.shape[1:]:
        message = (
            f"x must have shape (tokens, d), weight (d,), both float32; got {x.dtype}, "
            f"{tuple(x.shape)} and {weight.dtype}, {tuple(weight.shape)}"
        )
        raise ValueError(message)
    out = memory.empty(x.shape, torch.bfloat16 if half else torch.float32, x.device)
    scale = x.new_empty(x.shape[0])
    x, weight = x.contiguous(), weight.contiguous()
    arguments = NormArguments(tokens=x.shape[0], d=x.shape[1], half=half, eps=eps)
    native_library.fill(arguments, {"x": x, "weight": weight, "out": out, "scale": scale})
    native_library.call("longdoc_norm_forward", arguments)
    return out, scale


norm_forward = torch.library.custom_op(
    "longdoc::rms_norm_forward",
    native_library.without_tangents(normalise),
    mutates_args=(),
    device_types="cpu",
)


@norm_forward.register_fake
def _made_forward(x: Tensor, weight: Tensor, eps: float, half: bool) -> tuple[Tensor, Tensor]:
    kind = torch.bfloat16 if half else torch.float32
    return x.new_empty(x.shape, dtype=kind), x.new_empty(x.shape[0])


def followed(x: Tensor, weight: Tensor, eps: float, half: bool) -> Tensor:
    """Give the output of :func:`normalise` in operations that torch differentiates."""
    return reference.rms_norm(x, weight, eps).to(torch.bfloat16 if half else torch.float32)


def normalise_backward(
    dout: Tensor, x: Tensor, weight: Tensor, scale: Tensor, through: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Go back; gives the gradients of the input, ``through`` added to it, and of the weight."""
    dout, x, weight = dout.contiguous(), x.contiguous(), weight.contiguous()
    through = None if through is None else through.contiguous()
    tokens, d = x.shape
    arguments = NormArguments(tokens=tokens, d=d, half=dout.dtype == torch.bfloat16)
    dx = memory.empty(x.shape, x.dtype, x.device)
    parts = x.new_empty(-(-tokens // TILE), d)
    tensors = {
        "dout": dout, "x": x, "weight": weight, "scale": scale, "through": through, "dx": dx,
        "dweight": parts,
    }  # fmt: skip
    native_library.fill(arguments, tensors)
    native_library.call("longdoc_norm_backward", arguments)
    return dx, parts.sum(0)


@torch.library.custom_op("longdoc::rms_norm_backward", mutates_args=(), device_types="cpu")
def norm_backward(dout: Tensor, x: Tensor, weight: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Go back; gives the gradients of input and weight."""
    return normalise_backward(dout, x, weight, scale)


@norm_backward.register_fake
def _made_backward(dout: Tensor, x: Tensor, weight: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), weight.new_empty(weight.shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, *ctx.settings = inputs
    ctx.save_for_backward(x, weight, output[1])


def _backward(ctx: Any, dout: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    x, weight, scale = ctx.saved_tensors
    if twice.wanted(dout):
        again = functools.partial(followed, eps=ctx.settings[0], half=ctx.settings[1])
        return *twice.gradients(again, (x, weight), (dout,), ctx.needs_input_grad[:2]), None, None
    dx, dweight = norm_backward(dout, x, weight, scale)
    return dx, dweight, None, None


norm_forward.register_autograd(_backward, setup_context=_setup)


class _Norm(torch.autograd.Function):
    """The operators outside of a compiler."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, eps: float, half: bool
    ) -> tuple[Tensor, Tensor]:
        output = normalise(x, weight, eps, half)
        _setup(ctx, (x, weight, eps, half), output)
        ctx.mark_non_differentiable(output[1])
        return output

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        return _backward(ctx, *above)
