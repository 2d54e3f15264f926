"""A corpus in a tokenizer's tokens, kept for the next run on the same documents.

The runs of a comparison differ in seed, loss or adapter far more often than in their tokens.
"""

import hashlib
import weakref

from transformers import PreTrainedTokenizerBase

from longdoc.documents.document import SPLITS, Corpus
from longdoc.tokens.encoding import Encoded, TokenSettings, encode

KEPT: dict[tuple[object, ...], dict[str, list[Encoded]]] = {}
"""At most one; it goes when its corpus does."""


def encode_corpus(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    settings: TokenSettings,
    *,
    causal: bool,
) -> dict[str, list[Encoded]]:
    """Turn every split's documents into token windows, or take those made last.

    Args:
        corpus: The documents.
        tokenizer: The backbone's.
        settings: Length and truncation.
        causal: Which special tokens stand around a document (``encode``).

    Returns:
        By split, in the order of its documents; not to be changed, others may be given it too.

    Raises:
        SettingsError: The tokenizer lacks a special token.
    """
    key = (id(corpus), _identity(tokenizer), settings, causal)
    found = KEPT.get(key)
    if found is None:
        KEPT.clear()  # before others are made, that there are never two
        found = {
            split: encode(corpus.splits[split], tokenizer, settings, causal=causal)
            for split in SPLITS
        }
        KEPT[key] = found
        weakref.finalize(corpus, KEPT.pop, key, None)
    return found


def _identity(tokenizer: PreTrainedTokenizerBase) -> object:
    """Tell a tokenizer from others by all it knows; one written in Python is itself alone."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return tokenizer
    special = sorted(tokenizer.special_tokens_map.items(), key=str)
    return hashlib.sha256(f"{backend.to_str()}{special}".encode()).hexdigest()
