"""Token windows to padded batches, in an order that depends on nothing but seed and epoch.

Letters: ``b`` documents in the batch, ``l`` tokens of the longest, ``c`` labels.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from longdoc.tokens.encoding import Encoded

POOL = 50
"""Effective batches whose documents are sorted by length together; as in transformers' grouping."""
ROUNDED_TO = 16
"""Tokens to a multiple of which the length of a batch of 128 tokens or more is rounded up."""


Read = Sequence[Encoded] | NDArray[np.float32]
"""What a model reads of documents: token windows, or one vector each, shape (documents, d)."""
Row = tuple[NDArray[np.generic], NDArray[np.float32]]


def token_counts(read: Read) -> NDArray[np.int64]:
    """Count the tokens of each document, shape (documents,); a vector counts as one."""
    if isinstance(read, np.ndarray):
        return np.ones(len(read), dtype=np.int64)
    return np.array([len(part.ids) for part in read], dtype=np.int64)


def taken(read: Read, rows: NDArray[np.int64]) -> Read:
    """Take documents by their numbers."""
    return read[rows] if isinstance(read, np.ndarray) else [read[row] for row in rows]


class Windows(Dataset[Row]):
    """Token windows, or vectors, with their targets."""

    def __init__(self, encoded: Read, targets: NDArray[np.float32]) -> None:
        self.encoded = encoded
        self.targets = targets

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, row: int) -> Row:
        part = self.encoded[row]
        return part.ids if isinstance(part, Encoded) else part, self.targets[row]


class Collate:
    """Pad on the right; the mask, not the padding number, says what is real.

    Batches of nearly one length get one length: their tensors then fit where those of an earlier
    one were. Without that a BERT in training held two fifths more memory, in holes, and took a
    tenth more time (docs/experiment-log.md).

    Args:
        pad: Number of the padding token.
        most: Tokens of the longest document there is, which no batch is made longer than; a
            backbone may have no position beyond. 0 pads to the longest of each batch.
    """

    def __init__(self, pad: int, most: int = 0) -> None:
        self.pad, self.most = pad, most

    def __call__(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Give ``input_ids`` and ``attention_mask`` ``(b, l)`` and ``labels`` ``(b, c)``.

        Vectors come as ``vectors`` ``(b, d)`` instead.
        """
        labels = torch.from_numpy(np.stack([target for _, target in rows]))
        if rows[0][0].dtype.kind == "f":
            vectors = torch.from_numpy(np.stack([vector for vector, _ in rows]))
            return {"vectors": vectors, "labels": labels}
        width = self._width(max(len(ids) for ids, _ in rows))
        ids = torch.full((len(rows), width), self.pad, dtype=torch.long)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for row, (tokens, _) in enumerate(rows):
            ids[row, : len(tokens)] = torch.from_numpy(tokens.astype(np.int64))
            mask[row, : len(tokens)] = 1
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    def _width(self, longest: int) -> int:
        """Round up, by an eighth and by 15 tokens at most."""
        step = max(1, min(ROUNDED_TO, 2 ** (longest.bit_length() - 1) // 8))
        return max(longest, min(-(-longest // step) * step, self.most))


class EpochBatches(Sampler[list[int]]):
    """Batches of one process, the same documents a step however a step is cut up.

    One step takes ``batch * accumulation * processes`` documents. Which ones depends on seed and
    epoch alone, so batch 16, batch 2 with 8 accumulated, and two processes with 8 each train
    alike. The last step of an epoch is filled up with documents from the epoch's beginning.

    Args:
        lengths: Tokens of each document.
        batch: Documents a batch.
        accumulation: Batches a step.
        seed: Of the order.
        processes: Number of processes.
        rank: Which of them this is.
        group: Whether documents of similar length share a step.
    """

    def __init__(
        self,
        lengths: Sequence[int] | NDArray[np.int64],
        batch: int,
        *,
        accumulation: int = 1,
        seed: int = 0,
        processes: int = 1,
        rank: int = 0,
        group: bool = True,
    ) -> None:
        self.lengths = np.asarray(lengths)
        self.batch, self.accumulation, self.seed = batch, accumulation, seed
        self.processes, self.rank, self.group = processes, rank, group
        self.epoch = 0
        self.documents = len(self.lengths)
        self.draw: Callable[[int], NDArray[np.int64]] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self.epoch = epoch

    def draw_with(self, draw: Callable[[int], NDArray[np.int64]] | None) -> None:
        """Choose which documents an epoch has by its number, always as many; None: each once."""
        self.draw = draw
        self.documents = len(self.lengths) if draw is None else len(draw(0))

    @property
    def step(self) -> int:
        """Documents an optimizer step takes."""
        return self.batch * self.accumulation * self.processes

    def __len__(self) -> int:
        return -(-self.documents // self.step) * self.accumulation

    def steps(self) -> NDArray[np.int64]:
        """Give this epoch's documents, shape (steps, documents a step)."""
        generator = np.random.default_rng([self.seed, self.epoch])
        drawn = np.arange(self.documents) if self.draw is None else self.draw(self.epoch)
        order = generator.permutation(drawn)
        missing = -len(order) % self.step
        order = np.concatenate([order, np.resize(order, missing)]) if missing else order
        if not self.group:
            return order.reshape(-1, self.step)
        pool = self.step * POOL
        pools = [order[start : start + pool] for start in range(0, len(order), pool)]
        grouped = [part[np.argsort(-self.lengths[part], kind="stable")] for part in pools]
        steps = np.concatenate(grouped).reshape(-1, self.step)
        return steps[generator.permutation(len(steps))]

    def __iter__(self) -> Iterator[list[int]]:
        for documents in self.steps():
            mine = documents.reshape(self.accumulation, self.processes, self.batch)[:, self.rank]
            for batch in mine:
                yield batch.tolist()
