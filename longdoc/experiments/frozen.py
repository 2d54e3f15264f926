"""A frozen backbone reads each document once; its head is trained on the vectors.

What a frozen backbone says of a document never changes, so runs that differ in head, loss or seed
share it: vectors of pretrained weights are kept in the cache.

Letters: ``d`` width of a vector.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
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
from longdoc.documents.document import SPLITS, Corpus
from longdoc.experiments.settings import Settings
from longdoc.metrics import cost
from longdoc.progress import Progress, silent
from longdoc.tokens.encoding import Encoded
from longdoc.training import settings as training
from longdoc.training.predict import Reader

BATCH = 32
"""Documents read at once, whatever a head is trained with: their number changes rounding."""
SECONDS = "seconds"
FORM = 1
"""Goes up when the same weights and tokens come to other vectors; old ones are then not found."""


@dataclass(frozen=True)
class Vectors:
    """What a frozen backbone says of documents.

    Attributes:
        of: By split, shape (documents, d).
        seconds: What reading each split took, when it was read.
    """

    of: dict[str, NDArray[np.float32]]
    seconds: dict[str, float]


def vectors(
    reader: Reader,
    settings: Settings,
    corpus: Corpus,
    encoded: dict[str, list[Encoded]],
    progress: Progress = silent,
) -> Vectors:
    """Give every document's vector, from the cache if it is there.

    Args:
        reader: Of a classifier whose backbone is frozen; it is moved to where it will train.
        settings: Of the run.
        corpus: The documents.
        encoded: Their tokens.
        progress: Told how far reading is.
    """
    reader.model.to(_device())
    file = place(settings, encoded)
    kept = _kept(file, corpus) if file is not None else None
    if kept is not None:
        return kept
    found, seconds = {}, {}
    for number, split in enumerate(SPLITS):

        def tell(share: float, message: str, number: int = number) -> None:
            progress(0.0, f"{message} {(number + share) / len(SPLITS):.0%}")

        with cost.measured() as reading:
            found[split] = reader.vectors(encoded[split], tell)
        seconds[split] = reading.seconds
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(f".{os.getpid()}")
        save_file(found, unfinished, {SECONDS: json.dumps(seconds)})
        unfinished.replace(file)
    return Vectors(found, seconds)


def _device() -> torch.device:
    """Say where this process computes, as the Trainer will."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def _kept(file: Path, corpus: Corpus) -> Vectors | None:
    """Read vectors from the cache; None where they are not there, or not whole."""
    try:
        with safe_open(file, framework="numpy") as opened:
            found = {split: opened.get_tensor(split) for split in SPLITS}
            seconds = json.loads(opened.metadata()[SECONDS])
        kept = Vectors(found, {split: float(seconds[split]) for split in SPLITS})
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
    whole = all(len(found[split]) == len(corpus.splits[split]) for split in SPLITS)
    return kept if whole else None


def place(settings: Settings, encoded: Mapping[str, Sequence[Encoded]]) -> Path | None:
    """Name the file of a checkpoint's vectors of some tokens.

    Args:
        settings: Of the run.
        encoded: Tokens of every split.

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
    read = hashlib.sha256()
    for split in SPLITS:
        read.update(f"{split} {len(encoded[split])}".encode())
        for part in encoded[split]:
            read.update(len(part.ids).to_bytes(8, "little") + part.ids.tobytes())
    about = {
        "weights": weights,
        "pooling": backbones.pooling(card, settings.backbone),
        "tokens": read.hexdigest(),
        "max_tokens": settings.tokens.max_tokens,
        "bfloat16": training.uses_bfloat16(settings.training.precision),
        "longdoc": FORM,
    }
    name = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
    return cache_folder() / "vectors" / f"{name}.safetensors"
