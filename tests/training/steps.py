"""Trains a few steps in a process of its own; prints a digest of the weights.

Run by tests: alone, under torchrun with two processes, and to be killed and resumed.
"""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
import transformers

from longdoc.backbones.build import build
from longdoc.backbones.settings import BackboneSettings
from longdoc.imbalance import ImbalanceSettings
from longdoc.imbalance.answer import work_out
from longdoc.tokens import tokenizers
from longdoc.tokens.encoding import TokenSettings, encode
from longdoc.training import trainer
from longdoc.training.settings import TrainingSettings
from tests.conftest import made_corpus


def prepared(name="mamba-mini", kind="multi-label", dropout=0.0, answers=None):
    corpus = made_corpus(kind, documents=88)
    tokenizer = tokenizers.train((d.text for d in corpus.splits["train"]), 300)
    built = build(
        BackboneSettings(name=name, pretrained=False), tokenizer,
        labels=corpus.labels, kind=kind, max_tokens=32, seed=0,
    )  # fmt: skip
    for module in built.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
    settings = TokenSettings(max_tokens=32)
    splits = {
        split: trainer.Split(
            split, kind,
            encode(corpus.splits[split], tokenizer, settings, causal=built.card.causal),
            corpus.truth(corpus.splits[split]),
        )
        for split in ("train", "validation", "test")
    }  # fmt: skip
    if answers:
        answer = work_out(ImbalanceSettings(**answers), splits["train"].truth, kind, SETTINGS.seed)
        splits["train"] = replace(splits["train"], answer=answer)
    return built.model, splits


SETTINGS = TrainingSettings(
    epochs=2, batch_size=16, patience=0, precision="float32", checkpoint_minutes=1e-4
)


def weights(model) -> dict[str, torch.Tensor]:
    return {name: part.detach().clone() for name, part in model.state_dict().items()}


def digest(model) -> str:
    sha = hashlib.sha256()
    for name, part in sorted(weights(model).items()):
        sha.update(name.encode() + part.numpy().tobytes())
    return sha.hexdigest()


def main() -> None:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    options = json.loads(sys.argv[1])
    folder = Path(options.pop("folder"))
    out = options.pop("out", None)
    name, dropout = options.pop("name", "mamba-mini"), options.pop("dropout", 0.0)
    answers = options.pop("answers", None)
    model, splits = prepared(name, dropout=dropout, answers=answers)
    settings = replace(SETTINGS, **options)
    fitted = trainer.fit(
        model, splits["train"], splits["validation"], settings, rate=1e-3, folder=folder
    )
    first = not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0
    if first and out:
        torch.save(weights(fitted.model), out)
    if first:
        print("digest", digest(fitted.model), flush=True)


if __name__ == "__main__":
    main()
