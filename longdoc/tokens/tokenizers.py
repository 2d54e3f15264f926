"""Text to token numbers: trained on a corpus, or read from a checkpoint."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

SPECIAL = {"pad_token": "<|pad|>", "eos_token": "<|end|>", "cls_token": "<|cls|>",
           "sep_token": "<|sep|>", "mask_token": "<|mask|>"}  # fmt: skip


def train(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer.

    Args:
        texts: Training documents only: what the test split says must not shape the vocabulary.
        vocabulary: Number of entries, special tokens and the 256 bytes among them.

    Source:
        sennrich2016bpe, Sec. 3.2; bytes as the base vocabulary: radford2019gpt2, Sec. 2.2.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL)


def train_cached(
    texts: Iterable[str], vocabulary: int, digest: str, folder: Path
) -> PreTrainedTokenizerBase:
    """Train a tokenizer, or take the one that was trained on the same texts before.

    Args:
        texts: Training documents.
        vocabulary: Number of entries.
        digest: Identifies the texts.
        folder: Where trained tokenizers are kept.
    """
    key = hashlib.sha256(f"{digest} {vocabulary} byte-level-bpe".encode()).hexdigest()[:16]
    place = folder / key
    if not (place / "tokenizer.json").exists():
        unfinished = folder / f".{key}.{os.getpid()}"
        train(texts, vocabulary).save_pretrained(unfinished)
        try:
            unfinished.rename(place)
        except OSError:  # another process was faster; its tokenizer is the same
            for file in unfinished.iterdir():
                file.unlink()
            unfinished.rmdir()
    return PreTrainedTokenizerFast.from_pretrained(place)


def count(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[int]:
    """Count the tokens of each text, special ones left out."""
    found = tokenizer(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)
    return [len(ids) for ids in found["input_ids"]]
