"""Gradients of gradients: where they are wanted, a kernel goes back in torch's operations.

A kernel's backward pass is a kernel too, into which autograd does not see. Torch's
``once_differentiable`` refuses a second derivative where the gradient from above needs one, and
lets a wrong one pass where only the inputs do, as in the penalty on a gradient of ``y.sum()``.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def wanted() -> bool:
    """Say, within a backward pass, whether its gradients are to be differentiated again."""
    return torch.is_grad_enabled()


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
            if gradient is not None and out.requires_grad
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
