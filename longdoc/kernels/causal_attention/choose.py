"""Which causal attention runs: the compiled one where it can, else the blocked one."""

import torch
from torch import Tensor

from longdoc.kernels.causal_attention import blocked, compiled
from longdoc.kernels.documents import check_starts


def causal_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    window: int | None = None,
    starts: Tensor | None = None,
    real: Tensor | None = None,
) -> Tensor:
    """Let every token attend to itself and to earlier ones.

    Letters: ``b`` documents, ``h`` heads, ``l`` tokens, ``d`` channels a head.

    Args:
        query: Shape ``(b, h, l, d)``.
        key: Shape ``(b, h, l, d)``.
        value: Shape ``(b, h, l, d)``.
        scale: Scores are multiplied by it; 1 in GPT-Neo.
        window: How many of the last tokens are seen, itself among them; all without.
        starts: Where documents of unequal length begin that lie one after the other in a single
            row, ``b = 1`` (see :mod:`longdoc.kernels.documents`).
        real: Which tokens are seen, shape ``(b, l)``, true and false; all without, and not with
            ``starts``. Who would see none attends to all in its window alike, itself among them.

    Returns:
        Shape ``(b, h, l, d)``.

    Raises:
        ValueError: A shape or the window does not fit, or both ``starts`` and ``real`` are there.

    Source:
        beltagy2020longformer, Sec. 3.1, for the window; black2021gptneo for the factor.
    """
    if query.dim() != 4 or 0 in query.shape:
        message = f"query must have shape (b, h, l, d), none of them 0; got {tuple(query.shape)}"
        raise ValueError(message)
    for name, part in (("key", key), ("value", value)):
        if part.shape != query.shape:
            message = (
                f"{name} must have the shape of query, {tuple(query.shape)}; "
                f"got {tuple(part.shape)}"
            )
            raise ValueError(message)
    if window is not None and window < 1:
        message = f"window must be at least 1; got {window}"
        raise ValueError(message)
    if starts is not None:
        check_starts(starts, query.shape[0], query.shape[2])
    _check_real(real, query, starts)
    variant = compiled if compiled.serves(query, key, value) else blocked
    return variant.causal_attention(query, key, value, scale, window, starts, real)


def _check_real(real: Tensor | None, query: Tensor, starts: Tensor | None) -> None:
    if real is None:
        return
    b, _, length, _ = query.shape
    if real.shape != (b, length) or real.dtype != torch.bool or starts is not None:
        message = (
            f"real must be of true and false, of shape {(b, length)}, and starts not be there; got "
            f"{real.dtype}, {tuple(real.shape)}{'' if starts is None else ' and starts'}"
        )
        raise ValueError(message)
