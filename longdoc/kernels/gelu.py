"""GELU in one pass over memory each way."""

import functools
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from longdoc.kernels import memory, native_library, twice
from longdoc.kernels.arguments import GeluArguments


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """Multiply each element by the probability that a standard normal number is below it.

    Args:
        x: Any shape. Our kernel takes float32 and bfloat16 on a CPU, torch's function the rest.
        approximate: ``none``, or ``tanh`` for the approximation that GPT-Neo was trained with;
            as in ``torch.nn.functional.gelu``.

    Returns:
        The shape and type of ``x``.

    Raises:
        ValueError: ``approximate`` is something else.
    """
    if approximate not in ("none", "tanh"):
        message = f"approximate must be 'none' or 'tanh'; got {approximate!r}"
        raise ValueError(message)
    serves = x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16)
    if not serves or not native_library.available() or torch.compiler.is_compiling():
        return F.gelu(x, approximate=approximate)
    found: Tensor = _Gelu.apply(x.contiguous(), approximate == "tanh")  # type: ignore[no-untyped-call]
    return found


class _Gelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, tanh: bool) -> Tensor:
        ctx.save_for_backward(x)
        ctx.tanh = tanh
        return _run(x, None, tanh)

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, None]:
        (x,) = ctx.saved_tensors
        if twice.wanted(dout):
            approximate = "tanh" if ctx.tanh else "none"
            again = functools.partial(F.gelu, approximate=approximate)
            return twice.gradients(again, (x,), (dout,), (True,))[0], None
        return _run(x, dout.contiguous(), ctx.tanh), None


def _run(x: Tensor, dout: Tensor | None, tanh: bool) -> Tensor:
    out = memory.empty(x.shape, x.dtype, x.device)
    arguments = GeluArguments(count=x.numel(), half=x.dtype == torch.bfloat16, tanh=tanh)
    native_library.fill(arguments, {"x": x, "dout": dout, "out": out})
    native_library.call("longdoc_gelu", arguments)
    return out
