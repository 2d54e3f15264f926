"""Gradients of gradients: where they are wanted, a kernel goes back in torch's operations.

A kernel's backward pass is a kernel too, into which autograd does not see. Torch's
``once_differentiable`` refuses a second derivative where the gradient from above needs one, and
lets a wrong one pass where only the inputs do, as in the penalty on a gradient of ``y.sum()``.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from longdoc.kernels import native_library


def wanted(*above: Tensor | None) -> bool:
    """Say, within a backward pass, whether torch must see what its gradients are made of.

    They are to be differentiated again, or what comes from above has tangents, or is a batch of
    gradients (``is_grads_batched``, ``vectorize``).
    """
    if torch.is_grad_enabled() or native_library.is_transformed():
        return True
    is_batch = torch._C._functorch.is_legacy_batchedtensor  # private to torch
    return any(is_batch(part) for part in above if part is not None)


def gradients(
    function: Callable[..., Any],
    inputs: Sequence[Tensor | None],
    above: Sequence[Tensor | None],
    needed: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Give gradients that can be differentiated again, where :func:`wanted` says so.

    Args:
        function: What was computed, in operations that torch differentiates: takes the inputs,
            gives a tensor or a tuple of them.
        inputs: As the forward pass had them.
        above: Gradient of each output; None where there is none.
        needed: For each input whether its gradient is asked for; others get None.
    """
    again = wanted()
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        # By views: two inputs may be one tensor, and each has a share of its own.
        seen = [
            part.view_as(part) if part is not None and need else part
            for part, need in zip(inputs, needed, strict=True)
        ]
        made = function(*seen)
        outputs = made if isinstance(made, tuple) else (made,)
        pairs = [
            (out, gradient)
            for out, gradient in zip(outputs, above, strict=True)
            if gradient is not None and out is not None and out.requires_grad
        ]
        asked = [part for part, need in zip(seen, needed, strict=True) if need and part is not None]
        if not pairs or not asked:
            return (None,) * len(seen)
        made, given = zip(*pairs, strict=True)
        found = iter(torch.autograd.grad(made, asked, given, create_graph=again, allow_unused=True))
    return tuple(
        next(found) if need and part is not None else None
        for part, need in zip(seen, needed, strict=True)
    )


def of_part(
    function: Callable[..., Any],
    inputs: Sequence[Tensor],
    above: Sequence[Tensor | None],
    needed: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Do what :func:`gradients` does, and make it again for the gradients of these gradients.

    Until then nothing but the inputs is kept, so that of many parts one at a time takes memory.
    """
    if not native_library.may_checkpoint():
        return gradients(function, inputs, above, needed)
    found: tuple[Tensor | None, ...] = _OfPart.apply(function, needed, *inputs, *above)  # type: ignore[no-untyped-call]
    return found


class _OfPart(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Any, needed: Sequence[bool], *tensors: Any) -> Any:
        ctx.part = function, needed
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        return _split(function, needed, *tensors)

    @staticmethod
    def backward(ctx: Any, *above: Tensor | None) -> tuple[Any, ...]:
        run = functools.partial(_split, *ctx.part)
        return None, None, *gradients(run, ctx.saved_tensors, above, ctx.needs_input_grad[2:])


def _split(function: Any, needed: Sequence[bool], *tensors: Any) -> tuple[Tensor | None, ...]:
    count = len(needed)
    return gradients(function, tensors[:count], tensors[count:], needed)


def known(
    function: Callable[..., Tensor], value: Tensor, inputs: Sequence[Tensor | None]
) -> Tensor:
    """Give what a function makes of its inputs, which is known, with its gradients.

    It is computed when these are asked for.
    """
    found: Tensor = _Known.apply(function, (value,), *inputs)  # type: ignore[no-untyped-call]
    return found


class _Known(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Any, value: tuple[Tensor], *inputs: Any) -> Tensor:
        ctx.function = function
        ctx.save_for_backward(*inputs)
        return value[0].view_as(value[0])

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Any, ...]:
        needed = ctx.needs_input_grad[2:]
        return None, None, *gradients(ctx.function, ctx.saved_tensors, (above,), needed)
