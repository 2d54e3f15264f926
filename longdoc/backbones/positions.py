"""Learned positions made to reach further, so that a model reads longer documents than before."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.bert.modeling_bert import BertEmbeddings
from transformers.models.gpt_neo.modeling_gpt_neo import GPTNeoSelfAttention

TABLES = {"bert": "bert.embeddings.position_embeddings", "gpt_neo": "transformer.wpe"}
"""Where a family keeps its learned positions; other families have none."""


def extended(positions: Tensor, length: int) -> Tensor:
    """Extend learned positions by repeating them, shape ``(length, d)``.

    Args:
        positions: Learned position embeddings, shape ``(p, d)``.
        length: How many are needed, at least ``p``.

    Source:
        beltagy2020longformer, Sec. 5 (there under windowed attention; under full attention it is
        our transfer of the method).

    Example:
        >>> extended(torch.tensor([[1.0], [2.0]]), 5).flatten()
        tensor([1., 2., 1., 2., 1.])
    """
    times = -(-length // positions.shape[0])
    return positions.repeat(times, 1)[:length].clone()


def extend_positions(model: PreTrainedModel, length: int) -> int | None:
    """Let a model with learned positions read longer documents.

    Args:
        model: A BERT or GPT-Neo classifier; other families have no learned positions.
        length: Tokens it must be able to read.

    Returns:
        The positions it had before, or None where nothing had to change.
    """
    name = TABLES.get(model.config.model_type)
    if name is None:
        return None
    before: int = model.config.max_position_embeddings
    if length <= before:
        return None
    embedding = model.get_submodule(name)
    assert isinstance(embedding, nn.Embedding)
    with torch.no_grad():
        embedding.weight = nn.Parameter(extended(embedding.weight, length))
    embedding.num_embeddings = length
    model.config.max_position_embeddings = length
    _rebuild_position_buffers(model, length)
    return before


def _rebuild_position_buffers(model: nn.Module, length: int) -> None:
    """Rebuild what transformers sized by the number of positions."""
    for module in model.modules():
        if isinstance(module, GPTNeoSelfAttention) and module.bias is not None:
            seen = torch.ones(length, length, dtype=torch.bool, device=module.bias.device).tril()
            if module.attention_type == "local":
                seen = seen ^ seen.tril(-module.config.window_size)
            module.bias = nn.Buffer(seen[None, None], persistent=False)
        elif isinstance(module, BertEmbeddings):
            device = module.position_ids.device
            places = torch.arange(length, device=device)[None]
            module.position_ids = nn.Buffer(places, persistent=False)
            kinds = torch.zeros_like(places)
            module.token_type_ids = nn.Buffer(kinds, persistent=False)
