"""A trained model's scores for documents.

Letters: ``n`` documents, ``c`` labels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from longdoc.documents.document import Kind
from longdoc.tokens.batches import Collate
from longdoc.tokens.encoding import Encoded
from longdoc.training import objective
from longdoc.training.progress import Progress, silent


def score_documents(
    model: nn.Module,
    encoded: Sequence[Encoded],
    kind: Kind,
    *,
    pad: int,
    batch_size: int,
    bfloat16: bool,
    progress: Progress = silent,
) -> NDArray[np.float32]:
    """Score documents, longest first so that memory is asked for once.

    Args:
        model: A classifier.
        encoded: Token windows.
        kind: The task's.
        pad: Number of the padding token.
        batch_size: Documents a batch.
        bfloat16: Whether matrix products run in bfloat16.
        progress: Told how far it is.

    Returns:
        Shape ``(n, c)``, in the order of the documents.
    """
    device = next(model.parameters()).device
    order = np.argsort([-len(part.ids) for part in encoded], kind="stable")
    collate = Collate(pad)
    found: list[NDArray[np.float32]] = []
    model.eval()
    nothing = np.zeros(0, dtype=np.float32)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = collate([(encoded[row].ids, nothing) for row in rows])
        with (
            torch.inference_mode(),
            torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16),
        ):
            logits = model(
                input_ids=batch["input_ids"].to(device),
                attention_mask=batch["attention_mask"].to(device),
            ).logits
        found.append(objective.scores(logits, kind).float().cpu().numpy())
        progress(min(1.0, (start + batch_size) / len(order)), "predicting")
    placed = np.empty((len(order), found[0].shape[1]), dtype=np.float32)
    placed[order] = np.concatenate(found)
    return placed
