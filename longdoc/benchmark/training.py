"""What a whole training adds to its forward and backward passes.

A process of its own tokenizes documents, trains on them as ``longdoc train`` does, and runs bare
passes over the same documents before and after.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import MambaConfig

from longdoc.adapters.lora import add_lora
from longdoc.backbones import MambaForSequenceClassification
from longdoc.benchmark.worker import how_it_ended
from longdoc.documents.document import Document
from longdoc.errors import RunError
from longdoc.kernels.allocator import keep_freed_memory
from longdoc.tokens import tokenizers
from longdoc.tokens.encoding import Encoded, TokenSettings, encode
from longdoc.training import trainer
from longdoc.training.settings import TrainingSettings

LABELS = 10


@dataclass(frozen=True)
class Overhead:
    """Medians, in seconds a document.

    Attributes:
        bare: Forward and backward pass.
        step: A step of the training: loading, both passes, clipping, optimizer.
        tokenizing: Text to tokens.
    """

    bare: float
    step: float
    tokenizing: float

    def share(self) -> float:
        """Give what is added to the bare passes, as a share of them."""
        return (self.step + self.tokenizing) / self.bare - 1


def measure(tokens: int, layers: int, documents: int) -> Overhead:
    """Measure in a process of its own, mamba-130m's shape with LoRA in bfloat16.

    Args:
        tokens: Of each document; batch 1.
        layers: Of the model.
        documents: Steps of the training.
    """
    numbers = map(str, (tokens, layers, documents))
    order = [sys.executable, "-m", "longdoc.benchmark.training", *numbers]
    ended = subprocess.run(order, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RunError(how_it_ended(" ".join(order[1:]), ended.returncode, ended.stderr))
    return Overhead(**json.loads(ended.stdout.splitlines()[-1]))


def _texts(tokens: int, count: int) -> list[str]:
    """Draw documents of at least so many tokens, of words that a tokenizer will know."""
    generator = np.random.default_rng(0)
    words = ["".join(generator.choice(list("abcdefghij"), size=6)) for _ in range(400)]
    return [" ".join(generator.choice(words, size=tokens)) for _ in range(count)]


def _bare(model: Any, encoded: list[Encoded], truth: Any) -> list[float]:
    model.train()
    seconds = []
    for part, row in zip(encoded, truth, strict=True):
        ids, labels = torch.from_numpy(part.ids[None].astype(np.int64)), torch.from_numpy(row[None])
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(input_ids=ids).logits
        torch.nn.functional.binary_cross_entropy_with_logits(
            logits.float(), labels.float()
        ).backward()
        seconds.append(time.perf_counter() - start)
        model.zero_grad(set_to_none=True)
    return seconds


def _run(tokens: int, layers: int, documents: int) -> Overhead:
    keep_freed_memory()
    texts = _texts(tokens, documents)
    tokenizer = tokenizers.train(texts[:1], 1000)
    given = [Document(str(n), (text,), ()) for n, text in enumerate(texts)]
    start = time.perf_counter()
    encoded = encode(given, tokenizer, TokenSettings(max_tokens=tokens), causal=True)
    tokenizing = (time.perf_counter() - start) / documents
    config = MambaConfig(
        vocab_size=len(tokenizer), hidden_size=768, num_hidden_layers=layers, state_size=16,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    config.num_labels, config.problem_type = LABELS, "multi_label_classification"
    model = add_lora(MambaForSequenceClassification(config))
    truth = np.random.default_rng(1).random((documents, LABELS)) < 0.3
    bare = _bare(model, encoded, truth)
    ticks: list[float] = []
    settings = TrainingSettings(
        epochs=1, batch_size=1, patience=0, precision="bfloat16", checkpoint_minutes=1e6
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer.fit(
            model,
            trainer.Split("train", "multi-label", encoded, truth),
            trainer.Split("validation", "multi-label", encoded[:1], truth[:1]),
            settings,
            rate=1e-4,
            folder=Path(folder),
            progress=lambda *_: ticks.append(time.perf_counter()),
        )
    bare += _bare(model, encoded, truth)
    # The first passes fault memory in.
    steps = np.diff(ticks)[1:]
    return Overhead(statistics.median(bare[2:]), float(np.median(steps)), tokenizing)


if __name__ == "__main__":
    found = _run(*map(int, sys.argv[1:]))
    sys.stdout.write(json.dumps(found.__dict__) + "\n")
