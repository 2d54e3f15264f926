"""A frozen backbone reads each document once; its head is trained on the vectors.

What a frozen backbone says of a document never changes, so runs that differ in head, loss or seed
share it: vectors of pretrained weights are kept in the cache.

Letters: ``d`` width of a vector.
"""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from longdoc.backbones import build as backbones
from longdoc.backbones import checkpoints
from longdoc.documents.archives import cache_folder
from longdoc.documents.document import SPLITS, Corpus
from longdoc.experiments.settings import Settings
from longdoc.settings import to_mapping
from longdoc.tokens.encoding import Encoded
from longdoc.training import settings as training
from longdoc.training.predict import Reader
from longdoc.training.progress import Progress, silent

BATCH = 32
"""Documents read at once, whatever a head is trained with: their number changes rounding."""
Vectors = dict[str, NDArray[np.float32]]


def vectors(
    reader: Reader,
    settings: Settings,
    corpus: Corpus,
    encoded: dict[str, list[Encoded]],
    progress: Progress = silent,
) -> Vectors:
    """Give every document's vector by split, shape (documents, d), from the cache if it is there.

    Args:
        reader: Of a classifier whose backbone is frozen.
        settings: Of the run.
        corpus: The documents.
        encoded: Their tokens.
        progress: Told how far reading is.
    """
    file = place(settings, corpus)
    kept = _kept(file, corpus) if file is not None else None
    if kept is not None:
        return kept
    reader.model.to(_device())
    found: Vectors = {}
    for number, split in enumerate(SPLITS):

        def tell(share: float, message: str, number: int = number) -> None:
            progress(0.0, f"{message} {(number + share) / len(SPLITS):.0%}")

        found[split] = reader.vectors(encoded[split], tell)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(f".{os.getpid()}")
        save_file(found, unfinished)
        unfinished.replace(file)
    return found


def _device() -> torch.device:
    """Say where this process computes, as the Trainer will."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def _kept(file: Path, corpus: Corpus) -> Vectors | None:
    """Read vectors from the cache; None where they are not there, or not whole."""
    try:
        found: Vectors = load_file(file)
    except (OSError, SafetensorError):
        return None
    whole = all(
        split in found and len(found[split]) == len(corpus.splits[split]) for split in SPLITS
    )
    return found if whole else None


def place(settings: Settings, corpus: Corpus) -> Path | None:
    """Name the file of a checkpoint's vectors; None for random weights, which differ by seed."""
    card = backbones.resolve(settings.backbone)
    if backbones.starts_at_random(card, settings.backbone):
        return None
    about = {
        "weights": checkpoints.identity(card, settings.backbone),
        "backbone": to_mapping(settings.backbone),
        "tokens": to_mapping(settings.tokens),
        "corpus": corpus.digest(),
        "splits": {split: len(corpus.splits[split]) for split in SPLITS},
        "bfloat16": training.uses_bfloat16(settings.training.precision),
    }
    name = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
    return cache_folder() / "vectors" / f"{name}.safetensors"
