"""Hidden states to the loss of a language model, without the logits of all tokens at once.

Letters: ``p`` predicted tokens, ``d`` hidden width, ``v`` entries of the vocabulary.

8,192 tokens and 50,000 entries would be 1.6 GB of logits, and as much for their gradient. Here the
logits of a few rows are made, turned into their gradient at once, and used up.
"""

import functools
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from longdoc.kernels import bfloat16, native_library, twice
from longdoc.kernels.linear import multiplied

ROWS = 256
"""Rows at a time; with 8,192 entries their logits stay in the second-level cache."""


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor
    ) -> Tensor:
        kind = hidden.dtype
        if torch.is_autocast_enabled(hidden.device.type):
            kind = torch.get_autocast_dtype(hidden.device.type)
        narrow = weight.to(kind)
        wanted = any(ctx.needs_input_grad[:3])
        to_hidden = torch.empty_like(hidden) if wanted else None
        to_weight = torch.zeros_like(weight) if wanted else None
        to_bias = torch.zeros_like(bias) if wanted and bias is not None else None
        total = torch.zeros((), dtype=torch.float64, device=hidden.device)
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(hidden), ROWS):
                rows = slice(start, start + ROWS)
                given = hidden[rows].to(kind)
                logits = multiplied(given, narrow.t()).to(_wide(kind))
                if bias is not None:
                    logits += bias
                aims = targets[rows, None]
                largest = logits.amax(dim=1, keepdim=True)
                total -= (logits.gather(1, aims) - largest).sum()
                share = logits.sub_(largest).exp_()
                sums = share.sum(dim=1, keepdim=True)
                total += sums.log().sum()
                if to_hidden is None or to_weight is None:
                    continue
                share *= 1 / (sums * len(hidden))
                share.scatter_add_(1, aims, torch.full_like(sums, -1 / len(hidden)))
                if to_bias is not None:
                    to_bias += share.sum(0)
                share = share.to(kind)
                to_hidden[rows] = multiplied(share, narrow)
                to_weight += _over_tokens(share, given)
        ctx.save_for_backward(to_hidden, to_weight, to_bias, hidden, weight, bias, targets)
        ctx.kind = kind
        return (total / len(hidden)).to(_wide(kind))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        *made, hidden, weight, bias, targets = ctx.saved_tensors
        if twice.wanted(gradient):
            plain = functools.partial(_plain, targets=targets, kind=ctx.kind)
            inputs = (hidden, weight, bias)
            return (*twice.gradients(plain, inputs, (gradient,), ctx.needs_input_grad[:3]), None)
        return (*(None if part is None else part * gradient for part in made), None)


def _plain(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, kind: torch.dtype
) -> Tensor:
    """Give the loss in operations that torch differentiates, with the logits of all tokens."""
    logits = functional.linear(hidden.to(kind), weight.to(kind)).to(_wide(kind))
    return functional.cross_entropy(logits if bias is None else logits + bias, targets)


def _over_tokens(left: Tensor, right: Tensor) -> Tensor:
    """Multiply the transpose of ``(p, v)`` by ``(p, d)``."""
    # Not linear.across: for oneDNN that copies both, which few rows may not pay for.
    return bfloat16.gather(left, right) if bfloat16.serves(left, right) else left.t() @ right


def _wide(kind: torch.dtype) -> torch.dtype:
    return torch.float64 if kind == torch.float64 else torch.float32


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None = None
) -> Tensor:
    """Give the mean cross entropy of ``hidden @ weight.T + bias``; matrices follow autocast.

    Args:
        hidden: States at the predicted tokens, shape ``(p, d)``, at least one.
        weight: Output embeddings, shape ``(v, d)``.
        targets: Token numbers, shape ``(p,)``, in ``0..v-1``.
        bias: Shape ``(v,)``.

    Returns:
        A scalar in float32 (float64 for float64 states).

    Raises:
        ValueError: No token is predicted.

    Example:
        >>> linear_cross_entropy(torch.zeros(2, 3), torch.ones(4, 3), torch.tensor([0, 3])).exp()
        tensor(4.)
    """
    if not len(hidden):
        message = "no token to predict: targets are empty"
        raise ValueError(message)
    if native_library.is_transformed():
        on = torch.is_autocast_enabled(hidden.device.type)
        kind = torch.get_autocast_dtype(hidden.device.type) if on else hidden.dtype
        return _plain(hidden, weight, bias, targets, kind)
    loss: Tensor = _LinearCrossEntropy.apply(hidden, weight, bias, targets)  # type: ignore[no-untyped-call]
    return loss
