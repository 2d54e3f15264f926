"""A trained model's scores for documents, and a frozen backbone's vectors of them.

Letters: ``n`` documents, ``c`` labels, ``d`` width of a vector, ``m`` logits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from longdoc.documents.document import Kind
from longdoc.kernels.allocator import give_back_excess
from longdoc.progress import Progress, silent
from longdoc.tokens.batches import Collate, token_counts
from longdoc.tokens.encoding import Encoded
from longdoc.training import objective

VECTORS_A_CALL = 4096


@dataclass(frozen=True)
class Reader:
    """Runs a trained model on documents, without gradients.

    Attributes:
        model: A classifier.
        pad: Number of the padding token.
        batch_size: Documents a batch.
        bfloat16: Whether matrix products run in bfloat16.
    """

    model: Any
    pad: int
    batch_size: int
    bfloat16: bool

    def scores(
        self,
        encoded: Sequence[Encoded],
        kind: Kind,
        shift: NDArray[np.float64] | None = None,
        progress: Progress = silent,
    ) -> NDArray[np.float32]:
        """Score documents.

        Args:
            encoded: Token windows.
            kind: The task's.
            shift: Added to the logits, shape ``(m,)``.
            progress: Told how far it is.

        Returns:
            Shape ``(n, c)``, in the order of the documents.
        """

        def compute(**batch: Tensor) -> Tensor:
            return objective.scores(self.model(**batch).logits, kind, shift)

        return self._each(encoded, compute, lambda share: progress(share, "predicting"))

    def vectors(
        self, encoded: Sequence[Encoded], progress: Progress = silent
    ) -> NDArray[np.float32]:
        """Give what the classifier's head stands on, shape ``(n, d)``."""
        return self._each(encoded, self.model.vectors, lambda share: progress(share, "reading"))

    def scores_of_vectors(
        self, vectors: NDArray[np.float32], kind: Kind, shift: NDArray[np.float64] | None = None
    ) -> NDArray[np.float32]:
        """Score documents by their vectors ``(n, d)``, shape ``(n, c)``."""

        def compute(part: Tensor) -> Tensor:
            return objective.scores(self.model.head(part), kind, shift)

        parts = np.split(vectors, range(VECTORS_A_CALL, len(vectors), VECTORS_A_CALL))
        return np.concatenate([self._run(compute, part=torch.from_numpy(part)) for part in parts])

    def _each(
        self,
        encoded: Sequence[Encoded],
        compute: Callable[..., Tensor],
        tell: Callable[[float], None],
    ) -> NDArray[np.float32]:
        """Compute something of every document, longest first so that memory is asked for once."""
        order = np.argsort(-token_counts(encoded), kind="stable")
        most = int(token_counts(encoded).max())
        collate, nothing = Collate(self.pad, most), np.zeros(0, dtype=np.float32)
        found: list[NDArray[np.float32]] = []
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            batch = collate([(encoded[row].ids, nothing) for row in rows])
            batch.pop("labels")
            found.append(self._run(compute, **batch))
            give_back_excess()  # what training left of the heap has holes that no batch here fits
            tell(min(1.0, (start + self.batch_size) / len(order)))
        placed = np.empty((len(order), found[0].shape[1]), dtype=np.float32)
        placed[order] = np.concatenate(found)
        return placed

    def _run(self, compute: Callable[..., Tensor], **batch: Tensor) -> NDArray[np.float32]:
        self.model.eval()
        device = next(self.model.parameters()).device
        with (
            torch.inference_mode(),
            torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.bfloat16),
        ):
            found = compute(**{name: part.to(device) for name, part in batch.items()})
        return found.float().cpu().numpy()
