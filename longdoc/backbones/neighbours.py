"""First weights with which some heads of the first layer look at a neighbouring token.

A transformer with learned positions has to find out which position stands beside which before it
can use what stands there, and needs far more text for that than a Mamba, whose convolution sees the
last four tokens from the beginning. Heads that begin so may learn to look elsewhere.

Letters: ``l`` positions, ``p`` pairs of channels, ``d`` hidden width.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

PAIRS = 16
"""Pairs of channels that hold a position; more than half a head has room for are left out."""
LOUDER, QUIETER = 3.0, 0.25
"""In these channels positions are so many times as large as first weights are, and tokens so many:
a head is to see positions there."""
SCORE = 17.0
"""What a head's score of its neighbour begins with: e to the 17 outweighs thousands of others."""


@dataclass(frozen=True)
class Places:
    """Where a family keeps what is set, and which neighbours its heads begin with."""

    tokens: str
    positions: str
    query: str
    key: str
    scaled: bool
    offsets: tuple[int, ...]


PLACES = {
    "gpt_neo": Places(
        "transformer.wte", "transformer.wpe",
        "transformer.h.0.attn.attention.q_proj", "transformer.h.0.attn.attention.k_proj",
        scaled=False, offsets=(-1, -2, -3),
    ),
    "bert": Places(
        "bert.embeddings.word_embeddings", "bert.embeddings.position_embeddings",
        "bert.encoder.layer.0.attention.self.query", "bert.encoder.layer.0.attention.self.key",
        scaled=True, offsets=(-1, 1, -2, 2),
    ),
}  # fmt: skip


def frequencies(pairs: int) -> Tensor:
    """Give the radians by which each pair of channels turns from a position to the next, ``(p,)``.

    Most turn fast, so that neighbours are told apart; the others slowly, so that what is far away
    is not taken for near. None turns by half a circle or more, which would be the other way round.
    """
    slow = pairs * 3 // 8
    near = torch.linspace(0.6, 2.9, pairs - slow)
    far = 0.4 * torch.logspace(0, math.log10(0.005 / 0.4), slow)
    return torch.cat([near, far])


def circles(length: int, turns: Tensor) -> Tensor:
    """Give positions on circles, sine and cosine of each pair in turn, shape ``(l, 2 p)``.

    Example:
        >>> circles(2, torch.tensor([math.pi / 2])).round().abs()
        tensor([[0., 1.],
                [1., 0.]])
    """
    angles = torch.arange(length)[:, None] * turns
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


def look_at_neighbours(model: PreTrainedModel) -> None:
    """Let heads of the first layer begin by looking at a neighbour each.

    GPT-Neo's look one, two and three tokens back, BERT's at two on either side; at least one head
    stays as it was.

    Args:
        model: A GPT-Neo or BERT language model with random weights, changed in place.

    Source:
        trockman2023mimetic, abstract, for attention that begins as it looks after training, and for
        why on little data; xu2024kvshifting, abstract, for attention shifted by a token, with which
        repeating is learnt sooner. That a neighbour is a turn of circles is vaswani2017attention's
        (Sec. 3.5). The numbers are ours (docs/experiment-log.md).
    """
    config, places = model.config, PLACES[model.config.model_type]
    size = config.hidden_size // config.num_attention_heads
    pairs = min(PAIRS, size // 2)
    turns, channels = frequencies(pairs), 2 * pairs
    tables: list[Any] = [model.get_submodule(name) for name in (places.tokens, places.positions)]
    tokens, positions = (table.weight for table in tables)
    query, key = (_weight(model, name) for name in (places.query, places.key))
    sigma, width = config.initializer_range, config.hidden_size
    # A layer norm stands between: it makes the mean square of all channels one. (BERT's third
    # embedding, that of the segment, is left out of account: its scores begin a little lower.)
    square = (channels * LOUDER**2 / 2 + (width - channels) * 2) / width
    gain = SCORE * square / (pairs * LOUDER**2) * (math.sqrt(size) if places.scaled else 1.0)
    with torch.no_grad():
        positions[:, :channels] = sigma * LOUDER * circles(len(positions), turns)
        tokens[:, :channels] *= QUIETER
        for head, offset in enumerate(places.offsets[: config.num_attention_heads - 1]):
            rows = slice(head * size, head * size + channels)
            query[rows] = math.sqrt(gain) * _turned(turns * offset, width)
            key[rows] = math.sqrt(gain) * _turned(turns * 0, width)


def _weight(model: PreTrainedModel, name: str) -> Tensor:
    layer: Any = model.get_submodule(name)
    weight: Tensor = layer.weight
    return weight


def _turned(angles: Tensor, width: int) -> Tensor:
    """Give the matrix ``(2 p, d)`` that turns each pair of channels by its angle."""
    pairs = torch.arange(len(angles))
    matrix = torch.zeros(2 * len(angles), width)
    sines, cosines = 2 * pairs, 2 * pairs + 1
    matrix[sines, sines] = matrix[cosines, cosines] = angles.cos()
    matrix[sines, cosines] = angles.sin()
    matrix[cosines, sines] = -angles.sin()
    return matrix
