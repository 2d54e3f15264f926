"""Attention that keeps its matrix, for short documents where a CPU trains.

Letters: ``b`` documents in the batch, ``h`` heads, ``l`` tokens, ``d`` width of a head.

The gradient of torch's fused attention takes seven times its products on a CPU. transformers' eager
path takes them alone, but under autocast it widens the matrix to float32 and narrows it again on
either side of the softmax, and drops elements of it with torch's random numbers. What that costs:
docs/experiment-log.md.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedConfig
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from longdoc.backbones.dropout import drop

NAME = "longdoc_short"
"""What transformers' models know it by."""

SHORT = 512
"""Tokens up to which it is the fastest, where a CPU trains."""


def choose(config: PreTrainedConfig, input_ids: Tensor, *, training: bool) -> None:
    """Let a model of transformers attend in the way that is fastest for what comes next.

    Args:
        config: The backbone's.
        input_ids: Token numbers, shape ``(b, l)``.
        training: Whether there will be a gradient.
    """
    short = input_ids.shape[1] <= SHORT and input_ids.device.type == "cpu"
    config._attn_implementation = NAME if short and training else "sdpa"


def short_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Attend, as transformers' ``eager`` does.

    Args:
        module: The layer.
        query: Shape ``(b, h, l, d)``, like ``key`` and ``value``.
        key: What is looked for.
        value: What is taken.
        attention_mask: Added to the scores, shape ``(b, 1, l, l)``; None for nothing.
        scaling: What scores are multiplied by; ``d ** -0.5`` without.
        dropout: How often a weight is set to zero while the layer trains.

    Returns:
        Shape ``(b, l, h, d)`` in the type of ``value``, and the weights ``(b, h, l, l)``.
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    with torch.autocast(query.device.type, enabled=False):
        scores = torch.matmul(query * scaling, key.transpose(2, 3))
        if attention_mask is not None:
            # float32's lowest number is minus infinity in bfloat16, and a row of these alone NaN.
            lowest = torch.finfo(scores.dtype).min
            scores += attention_mask.to(scores.dtype).clamp(min=lowest)
        weights = torch.softmax(scores, dim=-1)
        if module.training and dropout:
            weights = drop(weights, dropout)
        found = torch.matmul(weights, value)
    return found.transpose(1, 2).contiguous(), weights


AttentionInterface.register(NAME, short_attention)
AttentionMaskInterface.register(NAME, eager_mask)
