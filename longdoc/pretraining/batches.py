"""A token stream to the batches of optimizer steps.

Which tokens stand in a step depends on the stream and the seed alone, so that a resumed training
goes on with the same ones.

Letters: ``l`` tokens of a step, ``b`` pieces, ``p`` predicted tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from longdoc.pretraining.stream import Stream

IGNORED = -100
OPEN_STEPS = 16
"""Steps that are filled at once, where pieces are packed."""
POOL = 50
"""Steps whose pieces are sorted by length together, where pieces are padded."""
MASKED, REPLACED = 0.8, 0.1
"""Of the tokens to predict: shares that become the mask token, and any token (devlin2019bert,
Sec. 3.1); the rest stay."""


@dataclass(frozen=True)
class Marks:
    """Numbers of a tokenizer's special tokens, and how many tokens there are."""

    pad: int
    vocabulary: int
    cls: int = -1
    sep: int = -1
    mask: int = -1


@dataclass(frozen=True)
class Pieces:
    """Stretches of a stream, none longer than the backbone reads and none across documents.

    Attributes:
        first: Place of each piece's first token in the stream, shape (pieces,).
        size: Its tokens, shape (pieces,).
    """

    first: NDArray[np.int64]
    size: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.first)

    def take(self, rows: NDArray[np.int64]) -> "Pieces":
        """Give the pieces of these numbers, in this order."""
        return Pieces(self.first[rows], self.size[rows])


def cut(stream: Stream, documents: NDArray[np.int64], longest: int, *, causal: bool) -> Pieces:
    """Cut documents into pieces.

    A causal piece ends with the token that is only predicted, which is the first of the next
    piece: every token of a document but its first is predicted once.

    Args:
        stream: The tokens.
        documents: Which of its documents, in order, repetitions allowed.
        longest: Tokens the backbone reads at once.
        causal: Whether the next token is predicted.
    """
    lengths = stream.lengths()[documents]
    usable = lengths - 1 if causal else lengths
    counts = np.maximum(0, -(-usable // longest))
    place = np.repeat(stream.starts[documents], counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    first = place + within * longest
    left = np.repeat(usable, counts) - within * longest
    return Pieces(first, np.minimum(left, longest) + causal)


def drawn(
    stream: Stream, passes: Sequence[float], generator: np.random.Generator
) -> NDArray[np.int64]:
    """Draw the training documents: each source as often as asked for; part of a pass at random.

    Args:
        stream: With its sources.
        passes: How often each source is read.
        generator: Draws.
    """
    found = []
    for source, often in enumerate(passes):
        mine = stream.documents("train", source)
        whole, part = divmod(often, 1.0)
        found += [mine] * int(whole)
        if part > 1e-9:
            shuffled = generator.permutation(mine)
            reached = np.cumsum(stream.lengths()[shuffled])
            wanted = part * reached[-1] if len(reached) else 0
            found.append(shuffled[: int(np.searchsorted(reached, wanted)) + 1])
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def packed(pieces: Pieces, room: int) -> list[NDArray[np.int64]]:
    """Lay pieces one after the other, as many as a step has room for; nothing is padded.

    A piece goes into the first of a few open steps with room for it; where there is none, the
    oldest is closed. Their order stays nearly the one given.
    """
    closed: list[list[int]] = []
    opened: list[list[int]] = []
    left: list[int] = []
    for number, size in enumerate(pieces.size.tolist()):
        place = next((n for n, free in enumerate(left) if free >= size), None)
        if place is None:
            if len(opened) == OPEN_STEPS:
                closed.append(opened.pop(0))
                left.pop(0)
            place = len(opened)
            opened.append([])
            left.append(room)
        opened[place].append(number)
        left[place] -= size
    return [np.array(step) for step in (*closed, *opened)]


def padded(pieces: Pieces, room: int, generator: np.random.Generator) -> list[NDArray[np.int64]]:
    """Put pieces of like length together, so that few places of a step are padding."""
    pool = max(1, POOL * room // max(1, int(pieces.size.max(initial=1))))
    steps: list[NDArray[np.int64]] = []
    for start in range(0, len(pieces), pool):
        sizes = pieces.size[start : start + pool]
        order = np.argsort(-sizes, kind="stable")
        at = 0
        while at < len(order):
            fits = max(1, room // int(sizes[order[at]]))
            steps.append(start + order[at : at + fits])
            at += fits
    return [steps[number] for number in generator.permutation(len(steps))]


class NextToken(Dataset[dict[str, Tensor]]):
    """Steps of a causal backbone, pieces one after the other."""

    def __init__(self, stream: Stream, pieces: Pieces, room: int) -> None:
        self.stream, self.pieces = stream, pieces
        # The last token of a piece is only predicted: two pieces of 2,048 fill 4,096 places.
        self.steps = packed(Pieces(pieces.first, pieces.size - 1), room)

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """Give ``input_ids`` and ``labels`` ``(1, l)``, and where pieces start ``(b + 1,)``."""
        parts = _read(self.stream, self.pieces.take(self.steps[step]))
        sizes = [len(part) - 1 for part in parts]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        return {
            "input_ids": torch.from_numpy(np.concatenate([part[:-1] for part in parts]))[None],
            "attention_mask": torch.from_numpy(starts),
            "labels": torch.from_numpy(np.concatenate([part[1:] for part in parts]))[None],
        }


class MaskedToken(Dataset[dict[str, Tensor]]):
    """Steps of BERT: pieces between [CLS] and [SEP], some of their tokens hidden."""

    def __init__(
        self,
        stream: Stream,
        pieces: Pieces,
        room: int,
        marks: Marks,
        *,
        share: float,
        seed: int,
    ) -> None:
        self.stream, self.pieces, self.marks = stream, pieces, marks
        self.share, self.seed = share, seed
        self.steps = padded(pieces, room, np.random.default_rng([seed, 2]))

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """Give ``input_ids``, ``attention_mask`` and ``labels``, each ``(b, l)``.

        Source:
            devlin2019bert, Sec. 3.1; masks are drawn anew whenever a piece is read.
        """
        generator = np.random.default_rng([self.seed, 3, step])
        shown, aims = [], []
        for part in _read(self.stream, self.pieces.take(self.steps[step])):
            ids, aim = hide(part, self.marks, self.share, generator)
            shown.append(np.concatenate([[self.marks.cls], ids, [self.marks.sep]]))
            aims.append(np.concatenate([[IGNORED], aim, [IGNORED]]))
        return {
            "input_ids": _rows(shown, self.marks.pad),
            "attention_mask": _rows([np.ones(len(ids), np.int64) for ids in shown], 0),
            "labels": _rows(aims, IGNORED),
        }


def hide(
    ids: NDArray[np.int64], marks: Marks, share: float, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hide some tokens; gives what is shown and what is to be predicted, at least one token.

    Example:
        >>> marks = Marks(pad=0, vocabulary=9, mask=4)
        >>> shown, aims = hide(np.arange(5, 9), marks, 0.5, np.random.default_rng(0))
        >>> int((aims != IGNORED).sum()) >= 1
        True
    """
    wanted = generator.random(len(ids)) < share
    if not wanted.any():
        wanted[generator.integers(len(ids))] = True
    fate = generator.random(len(ids))
    shown = np.where(wanted & (fate < MASKED), marks.mask, ids)
    other = generator.integers(0, marks.vocabulary, len(ids))
    shown = np.where(wanted & (fate >= MASKED) & (fate < MASKED + REPLACED), other, shown)
    return shown, np.where(wanted, ids, IGNORED)


def _read(stream: Stream, pieces: Pieces) -> list[NDArray[np.int64]]:
    return [
        stream.tokens[first : first + size].astype(np.int64)
        for first, size in zip(pieces.first, pieces.size, strict=True)
    ]


def _rows(parts: Sequence[NDArray[np.int64]], filler: int) -> Tensor:
    longest = max(len(part) for part in parts)
    rows = np.full((len(parts), longest), filler, dtype=np.int64)
    for row, part in enumerate(parts):
        rows[row, : len(part)] = part
    return torch.from_numpy(rows)
