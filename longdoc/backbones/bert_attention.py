"""The attention of a BERT on a CPU, under a name that transformers knows it by.

Letters: ``b`` documents in the batch, ``h`` heads, ``l`` tokens, ``d`` width of a head.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import (
    AttentionMaskInterface,
    bidirectional_mask_function,
    eager_mask,
)

from longdoc.kernels import attention, bfloat16, native_library

NAME = "longdoc"
"""What transformers' models know it by."""

SHORT = 512
"""Tokens up to which it is the fastest where a CPU trains and has no tiles: at 1,024 torch's fused
attention is as fast. In tiles (AMX) ours is, whatever the length, and so it is in bfloat16 on the
way back where torch is slow with it (docs/experiment-log.md)."""


def choose(model: PreTrainedModel, input_ids: Tensor) -> None:
    """Let a BERT of transformers attend in the way that is fastest for what comes next.

    One that was told to attend in another way (``eager``) is left alone.

    Args:
        model: With a backbone and a head.
        input_ids: Token numbers, shape ``(b, l)``.
    """
    config, training = model.config, model.training
    if config._attn_implementation not in ("sdpa", NAME):
        return
    on_cpu = input_ids.device.type == "cpu"
    # Any layer tells: what has been enabled holds for all.
    if any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
        # What is computed again must attend as before, whatever the model read in between.
        ours = on_cpu and native_library.available() and not torch.compiler.is_compiling()
        config._attn_implementation = NAME if ours else "sdpa"
        return
    weights = model.dtype
    kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else weights
    # A compiled graph would have the matrix instead.
    serves = kind == torch.bfloat16 and not torch.compiler.is_compiling()
    fastest = training and input_ids.shape[1] <= SHORT
    fastest = fastest or (serves and _is_fast_in_bfloat16(training))
    # torch's fused attention has no tangents, nor does torch.func differentiate it twice.
    fastest = fastest or native_library.is_transformed()
    config._attn_implementation = NAME if fastest and on_cpu else "sdpa"


def _is_fast_in_bfloat16(training: bool) -> bool:
    slow = training and bfloat16.slow() and native_library.available()
    return native_library.multiplies_in_tiles() or slow


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend, as transformers' ``eager`` does.

    Args:
        module: The layer.
        query: Shape ``(b, h, l, d)``, like ``key`` and ``value``.
        key: What is looked for.
        value: What is taken.
        attention_mask: Added to the scores, or true where they count, shape
            ``(b, 1, 1 or l, l)``; None for nothing.
        scaling: What scores are multiplied by; ``d ** -0.5`` without.
        dropout: How often a weight is set to zero while the layer trains.

    Returns:
        Shape ``(b, l, h, d)`` in the type of ``value``, and None, for the weights are not kept.
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    rate = dropout if module.training else 0.0
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        lowest = torch.finfo(query.dtype).min
        seen = attention_mask
        attention_mask = torch.zeros_like(seen, dtype=query.dtype).masked_fill(~seen, lowest)
    found = attention(query, key, value, scaling, attention_mask, rate)
    return found.transpose(1, 2).contiguous(), None


def mask_of_keys(
    *, mask_function: Any, attention_mask: Tensor | None = None, **given: Any
) -> Tensor | None:
    """Make what is added to scores: of padding alone one row a document, not one a token.

    Args:
        mask_function: Which tokens a token may see, as transformers says it.
        attention_mask: True for real tokens, shape ``(b, l)``.
        **given: What transformers tells ``eager_mask`` besides.

    Returns:
        Shape ``(b, 1, 1 or l, l)``, or None without a mask, where nothing is left out.
    """
    masked = None if attention_mask is None else attention_mask.bool()
    shape = (given["batch_size"], given["kv_length"])
    if masked is None or masked.shape != shape or mask_function is not bidirectional_mask_function:
        return eager_mask(mask_function=mask_function, attention_mask=attention_mask, **given)
    lowest = torch.finfo(given["dtype"]).min
    return torch.zeros(masked.shape, dtype=given["dtype"]).masked_fill(~masked, lowest)[
        :, None, None
    ]


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, mask_of_keys)
