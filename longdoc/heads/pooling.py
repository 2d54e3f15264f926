"""From one vector a token to one vector a document.

Letters: ``b`` documents in the batch, ``l`` tokens, ``d`` hidden width.
"""

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from longdoc.kernels import native_library


def real_lengths(attention_mask: Tensor) -> Tensor:
    """Find where each document's last real token stands, plus one, from the mask alone.

    Padding may be on either side. The padding number is never looked at: it may equal the
    end-of-text token.

    Args:
        attention_mask: 1 for real tokens, 0 for padding, shape ``(b, l)``.

    Returns:
        Position of the last real token plus one, shape ``(b,)``.

    Example:
        >>> real_lengths(torch.tensor([[1, 1, 0], [0, 1, 1]]))
        tensor([2, 3])
    """
    places = torch.arange(1, attention_mask.shape[1] + 1, device=attention_mask.device)
    return (attention_mask.to(torch.bool) * places).amax(dim=1)


def can_look(x: Tensor) -> bool:
    """Say whether numbers may be looked at: in no graph, not under ``vmap``, nor where none are."""
    if torch.compiler.is_compiling():
        return False
    functorch = torch._C._functorch  # private to torch
    while functorch.is_gradtrackingtensor(x):
        x = functorch.get_unwrapped(x)
    return not (x.is_meta or isinstance(x, FakeTensor) or functorch.is_batchedtensor(x))


def last_token(hidden: Tensor, lengths: Tensor) -> Tensor:
    """Take the hidden state of each document's last real token.

    A causal backbone (Mamba, GPT-Neo) has read the whole document only there.

    Args:
        hidden: Hidden states, shape ``(b, l, d)``, any floating type.
        lengths: Position of the last real token plus one, shape ``(b,)``, integers in ``1..l``.

    Returns:
        One vector a document, shape ``(b, d)``, the type of ``hidden``.

    Raises:
        ValueError: A length is below 1 or above ``l``.
        RuntimeError: The same, in a graph of ``torch.compile`` or ``torch.export``.

    Source:
        radford2018gpt, Sec. 3.2; for Mamba gu2023mamba, App. E.3.4.

    Example:
        >>> hidden = torch.arange(6.0).reshape(1, 3, 2)
        >>> last_token(hidden, torch.tensor([2]))
        tensor([[2., 3.]])
    """
    if torch.compiler.is_compiling() and not native_library.is_transformed():
        fits = (lengths >= 1) & (lengths <= hidden.shape[1])
        torch._assert_async(fits.all(), "lengths must lie in 1..l: has a document no real token?")
    elif can_look(lengths) and (int(lengths.min()) < 1 or int(lengths.max()) > hidden.shape[1]):
        low, high = int(lengths.min()), int(lengths.max())
        message = f"lengths must lie in 1..{hidden.shape[1]}; got {low}..{high}"
        raise ValueError(message)
    rows = torch.arange(hidden.shape[0], device=hidden.device)
    return hidden[rows, lengths - 1]


def mean(hidden: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Average the hidden states of each document's real tokens.

    Args:
        hidden: Hidden states, shape ``(b, l, d)``, any floating type.
        attention_mask: 1 for real tokens, 0 for padding, shape ``(b, l)``; all real without.

    Returns:
        One vector a document, shape ``(b, d)``, the type of ``hidden``; added up in float32 at
        least.

    Source:
        reimers2019sbert, Sec. 3 (MEAN strategy).

    Example:
        >>> mean(torch.tensor([[[2.0], [4.0], [9.0]]]), torch.tensor([[1, 1, 0]]))
        tensor([[3.]])
    """
    if attention_mask is None:
        attention_mask = torch.ones(hidden.shape[:2], device=hidden.device)
    wide = hidden if hidden.dtype == torch.float64 else hidden.float()
    real = attention_mask.to(wide.dtype)[:, :, None]
    return ((wide * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)).to(hidden.dtype)
