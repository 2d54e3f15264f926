"""The causal convolution as it is defined: one sum of products a token.

Letters: ``b`` documents, ``d`` channels, ``l`` tokens, ``k`` tokens a sum goes over. The output is
``y[t] = bias + sum over j of weight[j] x[t - k + 1 + j]`` (gu2023mamba, Sec. 3.4), then the
activation.
"""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    starts: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Convolve token by token; slow, and the measure of every other variant.

    Args and result are those of :func:`longdoc.kernels.causal_conv1d`.
    """
    if starts is not None:
        return one_by_one(
            causal_conv1d, x, weight, bias, activation, initial_states, return_final_states, starts
        )
    k = weight.shape[1]
    wide = extended(x, k, initial_states)
    outputs = []
    for t in range(x.shape[2]):
        y = (wide[:, :, t : t + k] * weight.to(wide.dtype)).sum(-1)
        outputs.append(y if bias is None else y + bias.to(wide.dtype))
    y = torch.stack(outputs, dim=2)
    y = (F.silu(y) if activation else y).to(x.dtype)
    return (y, final_states(x, k, initial_states)) if return_final_states else y


def extended(x: Tensor, k: int, initial_states: Tensor | None) -> Tensor:
    """Put the ``k - 1`` tokens before the first in front, in float32 or float64."""
    kind = torch.float64 if x.dtype == torch.float64 else torch.float32
    if initial_states is None:
        return F.pad(x.to(kind), (k - 1, 0))
    return torch.cat([initial_states.to(kind), x.to(kind)], dim=2)


def final_states(x: Tensor, k: int, initial_states: Tensor | None) -> Tensor:
    """Give the last ``k - 1`` tokens, from which a document goes on, shape ``(b, d, k - 1)``."""
    if x.shape[2] >= k - 1:
        return x[:, :, x.shape[2] - (k - 1) :].clone()
    return extended(x, k, initial_states)[:, :, x.shape[2] :].to(x.dtype)


def one_by_one(
    convolve: Callable[..., Any],
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str | None,
    initial_states: Tensor | None,
    return_final_states: bool,
    starts: Tensor,
) -> Tensor | tuple[Tensor, Tensor]:
    """Convolve documents that lie one after the other, each by itself."""
    outputs, states = [], []
    for place, (start, stop) in enumerate(itertools.pairwise(starts.tolist())):
        before = None if initial_states is None else initial_states[place : place + 1]
        y, last = convolve(x[:, :, start:stop], weight, bias, activation, before, True)
        outputs.append(y)
        states.append(last)
    y = torch.cat(outputs, dim=2)
    return (y, torch.cat(states)) if return_final_states else y
