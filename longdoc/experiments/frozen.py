"""A frozen backbone reads each document once; its head is trained on the vectors.

What a frozen backbone says of a document never changes, so runs that differ in head, loss or seed
share it: vectors of pretrained weights are kept in the cache.

Letters: ``d`` width of a vector.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from longdoc.backbones import build as backbones
from longdoc.backbones import checkpoints
from longdoc.documents.archives import cache_folder
from longdoc.documents.document import SPLITS
from longdoc.experiments.settings import Settings
from longdoc.metrics import cost
from longdoc.progress import Progress, silent
from longdoc.tokens.encoding import Encoded
from longdoc.training import settings as training
from longdoc.training.predict import Reader

BATCH = 32
"""Documents read at once, whatever a head is trained with: their number changes rounding."""
SECONDS, VECTORS = "seconds", "vectors"
FORM = 2
"""Goes up when the same weights and tokens come to other vectors; old ones are then not found."""


@dataclass(frozen=True)
class Vectors:
    """What a frozen backbone says of documents.

    Attributes:
        of: By split, shape (documents, d).
        seconds: What reading each split took, when it was read: its tokens' share of all.
    """

    of: dict[str, NDArray[np.float32]]
    seconds: dict[str, float]


def vectors(
    reader: Reader,
    settings: Settings,
    encoded: dict[str, list[Encoded]],
    progress: Progress = silent,
) -> Vectors:
    """Give every document's vector, from the cache if it is there.

    Args:
        reader: Of a classifier whose backbone is frozen; it is moved to where it will train.
        settings: Of the run.
        encoded: Every split's documents in tokens; however they are split, the vectors are the
            same, so folds share them.
        progress: Told how far reading is.
    """
    reader.model.to(_device())
    names = {split: [_name(part) for part in encoded[split]] for split in SPLITS}
    known = {name: part for s in SPLITS for name, part in zip(names[s], encoded[s], strict=True)}
    order = sorted(known)
    file = place(settings, order)
    found = _kept(file, len(order)) if file is not None else None
    if found is None:
        found = _read(reader, [known[name] for name in order], progress)
        if file is not None:
            _keep(file, *found)
    rows = {name: row for row, name in enumerate(order)}
    tokens = np.array([len(known[name].ids) for name in order])
    chosen = {split: np.array([rows[n] for n in names[split]], dtype=int) for split in SPLITS}
    every, seconds = found
    share = {split: tokens[chosen[split]].sum() / max(1, tokens.sum()) for split in SPLITS}
    return Vectors(
        {split: every[chosen[split]] for split in SPLITS},
        {split: float(seconds * share[split]) for split in SPLITS},
    )


def _name(part: Encoded) -> bytes:
    return hashlib.sha256(part.ids.tobytes()).digest()


def _read(
    reader: Reader, documents: Sequence[Encoded], progress: Progress
) -> tuple[NDArray[np.float32], float]:
    """Read documents; gives their vectors (documents, d) and the seconds that took."""

    def tell(share: float, message: str) -> None:
        progress(0.0, f"{message} {share:.0%}")

    with cost.measured() as reading:
        found = reader.vectors(documents, tell)
    return found, reading.seconds


def _device() -> torch.device:
    """Say where this process computes, as the Trainer will."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def _keep(file: Path, found: NDArray[np.float32], seconds: float) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(f".{os.getpid()}")
    save_file({VECTORS: found}, unfinished, {SECONDS: json.dumps(seconds)})
    unfinished.replace(file)


def _kept(file: Path, documents: int) -> tuple[NDArray[np.float32], float] | None:
    """Read vectors from the cache; None where they are not there, or not whole."""
    try:
        with safe_open(file, framework="numpy") as opened:
            found = opened.get_tensor(VECTORS)
            seconds = float(json.loads(opened.metadata()[SECONDS]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
    return (found, seconds) if len(found) == documents else None


def place(settings: Settings, documents: Sequence[bytes]) -> Path | None:
    """Name the file of a checkpoint's vectors of some documents.

    Args:
        settings: Of the run.
        documents: SHA-256 of each one's tokens, in the order of the file.

    Returns:
        None for weights that cannot be told from others: random ones, which differ by seed, and a
        hub's without a known commit.
    """
    card = backbones.resolve(settings.backbone)
    if backbones.starts_at_random(card, settings.backbone):
        return None
    weights = checkpoints.identity(card, settings.backbone)
    if not (weights.get("commit") or weights.get("sha256")):
        return None
    about = {
        "weights": weights,
        "pooling": backbones.pooling(card, settings.backbone),
        "tokens": hashlib.sha256(b"".join(documents)).hexdigest(),
        "max_tokens": settings.tokens.max_tokens,
        "bfloat16": training.uses_bfloat16(settings.training.precision),
        "longdoc": FORM,
    }
    name = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
    return cache_folder() / "vectors" / f"{name}.safetensors"
