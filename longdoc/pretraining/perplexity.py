"""How well held-out documents are predicted."""

import math
import sys
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset
from transformers import PreTrainedModel

from longdoc.errors import RunError
from longdoc.pretraining.batches import IGNORED
from longdoc.pretraining.stream import Stream

MOST_NATS = math.log(sys.float_info.max)
"""From here on a perplexity is no number of double precision."""


@dataclass(frozen=True)
class Measured:
    """A mean negative log likelihood.

    Attributes:
        nats: Mean over the predicted tokens, natural logarithm.
        tokens: How many were predicted.
    """

    nats: float
    tokens: int

    @property
    def perplexity(self) -> float:
        """Give e to the mean; the number of equally likely tokens that would be as hard."""
        return math.exp(self.nats)


def measure(model: PreTrainedModel, steps: Dataset[dict[str, torch.Tensor]]) -> Measured:
    """Measure a model on held-out steps, in the number format its forward pass computes in.

    A masked model's number counts the hidden tokens, which it sees from both sides: it cannot be
    set beside a causal model's.

    Args:
        model: A language model.
        steps: Of ``longdoc.pretraining.batches``.

    Raises:
        RunError: It has diverged: the mean is not finite, or its perplexity is not.
    """
    was_training = model.training
    device = next(model.parameters()).device
    model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for number in range(len(steps)):  # type: ignore[arg-type]
            batch = {name: part.to(device) for name, part in steps[number].items()}
            predicted = int((batch["labels"] != IGNORED).sum())
            total += float(model(**batch).loss) * predicted
            count += predicted
    model.train(was_training)
    nats = total / max(1, count)
    if not nats < MOST_NATS:
        message = (
            f"the loss on held-out texts is {nats:.3g}: learning diverged; "
            f"try a lower learning.learning_rate, or float32"
        )
        raise RunError(message)
    return Measured(nats, count)


def held_out(stream: Stream, split: str, source: int, tokens: int) -> NDArray[np.int64]:
    """Draw held-out documents of one source, at most about so many tokens; the draw is fixed."""
    mine = stream.documents(split, source)
    shuffled = np.random.default_rng(0).permutation(mine)
    reached = np.cumsum(stream.lengths()[shuffled])
    kept = shuffled[: int(np.searchsorted(reached, tokens)) + 1]
    return np.sort(kept)
