"""What a system says of documents: one score a label, beside the truth."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from longdoc.documents.document import Kind
from longdoc.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Scores of one system for the documents of one split.

    Letters: ``n`` documents, ``c`` labels.

    Attributes:
        truth: Shape ``(n, c)``.
        scores: Shape ``(n, c)``, 0..1; for one-label tasks a row adds up to one.
        tokens: Length of each whole document, shape ``(n,)``; 0 where a system counts none.
        seen: Tokens of it that the system read, shape ``(n,)``.
        groups: The number of each document's group, from 0, shape ``(n,)``, where documents belong
            together; None where each stands alone.
    """

    split: str
    kind: Kind
    labels: tuple[str, ...]
    ids: tuple[str, ...]
    truth: NDArray[np.bool_]
    scores: NDArray[np.float32]
    tokens: NDArray[np.int64]
    seen: NDArray[np.int64]
    groups: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        shape = (len(self.ids), len(self.labels))
        if self.truth.shape != shape or self.scores.shape != shape:
            message = (
                f"truth and scores must have shape {shape}; "
                f"got {self.truth.shape} and {self.scores.shape}"
            )
            raise ValueError(message)
        if not np.isfinite(self.scores).all():
            message = (
                f"{self.split}: {int((~np.isfinite(self.scores)).sum())} scores are not finite"
            )
            raise DataError(message)


def decide(
    scores: NDArray[np.float32], kind: Kind, threshold: float | NDArray[np.float64] = 0.5
) -> NDArray[np.bool_]:
    """Turn scores into decisions.

    Args:
        scores: Shape ``(n, c)``.
        kind: multi-label: every label at or above its threshold; binary: the second label at or
            above it, else the first; multi-class: the label with the highest score.
        threshold: One for all labels, or shape ``(c,)``.

    Returns:
        Shape ``(n, c)``.

    Example:
        >>> decide(np.array([[0.6, 0.4], [0.3, 0.7]], dtype=np.float32), "binary", 0.4)
        array([[False,  True],
               [False,  True]])
    """
    if kind == "multi-label":
        return np.asarray(scores >= np.asarray(threshold))
    if kind == "binary":
        cut = np.broadcast_to(np.asarray(threshold), (2,))[1]
        positive = scores[:, 1] >= cut
        return np.stack([~positive, positive], axis=1)
    return np.asarray(np.arange(scores.shape[1]) == scores.argmax(axis=1)[:, None])


def save(parts: Sequence[Predictions], file: Path) -> None:
    """Write predictions of several splits, of the same labels, to one Parquet file."""
    first = parts[0]
    about = json.dumps({"kind": first.kind, "labels": list(first.labels)}).encode()
    width = len(first.labels)
    columns = {
        "split": pa.array([part.split for part in parts for _ in part.ids]),
        "id": pa.array([name for part in parts for name in part.ids]),
        "tokens": pa.array(np.concatenate([part.tokens for part in parts])),
        "seen": pa.array(np.concatenate([part.seen for part in parts])),
        "group": pa.array(np.concatenate([_groups(part) for part in parts])),
        "truth": _matrix([part.truth for part in parts], width),
        "scores": _matrix([part.scores for part in parts], width),
    }
    table = pa.table(columns).replace_schema_metadata({b"longdoc": about})
    pq.write_table(table, file, compression="zstd")


def _groups(part: Predictions) -> NDArray[np.int64]:
    return np.arange(len(part.ids)) if part.groups is None else part.groups


def _matrix(parts: Sequence[NDArray[np.generic]], width: int) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(parts).reshape(-1)), width)


def load(file: Path) -> dict[str, Predictions]:
    """Read predictions by split.

    Raises:
        DataError: The file is missing or is not a predictions file.
    """
    try:
        table = pq.read_table(file)
        about = json.loads(table.schema.metadata[b"longdoc"])
        names = np.array(table["split"].to_pylist())
        width = len(about["labels"])
        truth, scores = (
            table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
            for name in ("truth", "scores")
        )
        ids = np.array(table["id"].to_pylist(), dtype=object)
        tokens, seen = (table[name].to_numpy() for name in ("tokens", "seen"))
        # Runs of earlier versions do not say it.
        groups = table["group"].to_numpy() if "group" in table.column_names else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{file}: not a predictions file: {error}"
        raise DataError(message) from error
    found = {}
    for split in dict.fromkeys(names.tolist()):
        rows = names == split
        found[split] = Predictions(
            split=split,
            kind=about["kind"],
            labels=tuple(about["labels"]),
            ids=tuple(ids[rows]),
            truth=truth[rows].astype(bool),
            scores=scores[rows].astype(np.float32),
            tokens=tokens[rows],
            seen=seen[rows],
            groups=None if groups is None else _numbered(groups[rows]),
        )
    return found


def _numbered(groups: NDArray[np.int64]) -> NDArray[np.int64] | None:
    numbers = np.unique(groups, return_inverse=True)[1]
    return None if len(numbers) == numbers.max(initial=-1) + 1 else numbers
