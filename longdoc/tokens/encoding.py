"""Documents to token windows with the special tokens their backbone expects."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from longdoc.documents.document import Document
from longdoc.errors import SettingsError
from longdoc.settings import chosen, cited, require
from longdoc.tokens.windows import Truncation, cut

TEXTS_A_CALL = 64


@dataclass(frozen=True, kw_only=True)
class TokenSettings:
    """How text becomes tokens."""

    max_tokens: int = chosen(
        4096,
        "Longformer-4096 scores as hierarchical BERT at 8,192 on LexGLUE's ECtHR tasks "
        "(chalkidis2022lexglue, repository README)",
        unit="tokens, special ones included",
    )
    """How many tokens of a document the backbone sees."""
    truncation: Truncation = chosen("head", "what every published comparison we set beside does")
    """What of a longer document is kept: its head, or its head and its tail."""
    head_tokens: int = cited(128, "sun2019finetune", "Sec. 5.3.1", unit="tokens")
    """For head-tail: how many tokens come from the head."""
    vocabulary: int = chosen(
        8192, "a quarter of GPT-2's would fill a backbone of 3 million parameters", unit="entries"
    )
    """Entries of the tokenizer that a small backbone gets which starts at random, trained on the
    training split alone; other backbones have their own."""

    def __post_init__(self) -> None:
        require(self.max_tokens >= 3, "tokens.max_tokens", "at least 3", self.max_tokens)
        require(self.head_tokens >= 0, "tokens.head_tokens", "0 or more", self.head_tokens)
        small = "at least 300, for 256 bytes and the special tokens"
        require(self.vocabulary >= 300, "tokens.vocabulary", small, self.vocabulary)


@dataclass(frozen=True)
class Encoded:
    """One document's window.

    Attributes:
        ids: Token numbers, special ones included, shape (tokens seen,).
        length: Tokens of the whole document, special ones included.
    """

    ids: NDArray[np.int32]
    length: int


def encode(
    documents: Sequence[Document],
    tokenizer: PreTrainedTokenizerBase,
    settings: TokenSettings,
    *,
    causal: bool,
) -> list[Encoded]:
    """Turn documents into token windows.

    A causal backbone gets an end-of-text token, at which it has read everything; a bidirectional
    one gets [CLS] before and [SEP] behind.

    Args:
        documents: Any number.
        tokenizer: The backbone's.
        settings: Length and truncation.
        causal: Which of the two forms.

    Raises:
        SettingsError: The tokenizer lacks a special token.

    Source:
        radford2018gpt, Sec. 3.2 (last token); devlin2019bert, Sec. 3.
    """
    before, behind = _special(tokenizer, causal)
    room = settings.max_tokens - len(before) - len(behind)
    found = []
    for start in range(0, len(documents), TEXTS_A_CALL):
        texts = [document.text for document in documents[start : start + TEXTS_A_CALL]]
        for ids in plain_tokens(tokenizer, texts):
            kept = cut(ids, room, settings.truncation, settings.head_tokens)
            window = np.array(before + kept + behind, dtype=np.int32)
            found.append(Encoded(window, len(before) + len(ids) + len(behind)))
    return found


def plain_tokens(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """Give the tokens of texts and no others: who writes "[SEP]" into a text writes five signs."""
    found = tokenizer(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)
    ids: list[list[int]] = found["input_ids"]
    return ids


def add_special_tokens(
    tokenizer: PreTrainedTokenizerBase, settings: TokenSettings, *, causal: bool
) -> None:
    """Let a tokenizer that is saved beside a classifier cut and frame texts as :func:`encode` does.

    Whoever loads both with transformers gets the windows that the classifier was trained on (of
    longer texts their head).

    Args:
        tokenizer: Changed in place.
        settings: For the length.
        causal: Which of the two forms.

    Raises:
        SettingsError: The tokenizer lacks a special token.
    """
    before, behind = _special(tokenizer, causal)
    tokenizer.model_max_length = settings.max_tokens
    # Each twice: the first is what is saved, the second what counts now.
    tokenizer.init_kwargs["split_special_tokens"] = True
    tokenizer.split_special_tokens = True
    # Learned positions count from the left, and of longer texts the head is read.
    for side in ("padding_side", "truncation_side"):
        tokenizer.init_kwargs[side] = "right"
        setattr(tokenizer, side, "right")
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # of those that are written in Python
        return
    tokens = {tokenizer.convert_ids_to_tokens(number): number for number in (*before, *behind)}
    first, last = ([tokenizer.convert_ids_to_tokens(n) for n in ids] for ids in (before, behind))
    backend.post_processor = TemplateProcessing(
        single=[*first, "$A", *last],
        pair=[*first, "$A", *last, "$B:1", *(f"{token}:1" for token in last)],
        special_tokens=list(tokens.items()),
    )


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save a tokenizer such that it comes back framing texts as it does now.

    Some of transformers' classes forget that and frame as their models do; it is then saved as one
    of the class that does not.
    """
    tokenizer.save_pretrained(folder)
    again = AutoTokenizer.from_pretrained(folder)
    if again("a")["input_ids"] != tokenizer("a")["input_ids"]:
        file = folder / "tokenizer_config.json"
        about = json.loads(file.read_text(encoding="utf-8"))
        about["tokenizer_class"] = "PreTrainedTokenizerFast"
        file.write_text(json.dumps(about, indent=2, ensure_ascii=False), encoding="utf-8")


def _special(tokenizer: PreTrainedTokenizerBase, causal: bool) -> tuple[list[int], list[int]]:
    names = ("eos_token_id",) if causal else ("cls_token_id", "sep_token_id")
    ids = [getattr(tokenizer, name) for name in names]
    if None in ids:
        message = f"the tokenizer has no {names[ids.index(None)].removesuffix('_id')}"
        raise SettingsError(message)
    return ([], ids) if causal else (ids[:1], ids[1:])
