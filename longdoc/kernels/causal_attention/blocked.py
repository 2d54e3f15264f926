"""Causal attention whose memory grows with the tokens, not with their square.

Letters as in ``reference.py``. Over all tokens it is PyTorch's own memory-efficient product; with a
window the queries go in blocks of its size, each with the keys of its own block and the one before
(beltagy2020longformer, Sec. 3.1, there for both directions).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from longdoc.kernels import native_library
from longdoc.kernels.attention import followed
from longdoc.kernels.causal_attention import reference


def causal_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    window: int | None = None,
    starts: Tensor | None = None,
    real: Tensor | None = None,
) -> Tensor:
    """Attend block by block.

    Args and result are those of :func:`longdoc.kernels.causal_attention`.
    """
    if starts is not None:
        return reference.one_by_one(causal_attention, query, key, value, scale, window, starts)
    length = query.shape[2]
    if real is not None or _is_followed(query):
        q, k, v = (part.transpose(1, 2) for part in (query, key, value))
        mask = None
        if real is not None:
            kind = torch.promote_types(query.dtype, torch.float32)
            mask = reference.unreal(real, kind).expand(-1, 1, length, length)
        return followed.attention(q, k, v, mask, scale, window or length).transpose(1, 2)
    if window is None or length <= window:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)
    near = slice(0, window)
    first = causal_attention(query[:, :, near], key[:, :, near], value[:, :, near], scale)
    rest = _later_blocks(query, key, value, scale, window)
    return torch.cat([first, rest], dim=2)


def _is_followed(query: Tensor) -> bool:
    """Say whether torch's product will not do: it has no tangents and no second derivative.

    The first are wanted in transforms, the second is for whoever checks in float64.
    """
    exact = query.device.type == "cpu" and query.dtype == torch.float64
    return native_library.is_transformed() or (exact and not torch.compiler.is_compiling())


def _later_blocks(query: Tensor, key: Tensor, value: Tensor, scale: float, window: int) -> Tensor:
    """Attend from every block but the first."""
    b, heads, length, d = query.shape
    blocks = -(-length // window) - 1
    missing = (blocks + 1) * window - length
    asked = F.pad(query[:, :, window:], (0, 0, 0, missing))
    asked = asked.reshape(b * heads * blocks, 1, window, d)
    offered = []
    for x in (key, value):
        wide = F.pad(x, (0, 0, 0, missing)).reshape(b * heads, blocks + 1, window, d)
        pairs = torch.cat([wide[:, :-1], wide[:, 1:]], dim=2)
        offered.append(pairs.reshape(b * heads * blocks, 1, 2 * window, d))
    rows = torch.arange(window, device=query.device)[:, None] + window
    apart = rows - torch.arange(2 * window, device=query.device)
    seen = (apart >= 0) & (apart < window)
    keys, values = offered
    found = F.scaled_dot_product_attention(asked, keys, values, attn_mask=seen, scale=scale)
    return found.reshape(b, heads, blocks * window, d)[:, :, : length - window]
