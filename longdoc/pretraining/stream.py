"""Token numbers of all documents in one file, one document behind the other."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from longdoc.documents.document import SPLITS
from longdoc.pretraining.texts import Source, Text
from longdoc.progress import Progress, silent
from longdoc.tokens.encoding import plain_tokens

TEXTS_A_CALL = 256
ABOUT = "stream.json"


@dataclass(frozen=True)
class Stream:
    """Tokenized documents.

    Attributes:
        tokens: All token numbers, shape (tokens,), read from disk as needed.
        starts: Where each document begins, and at last the number of tokens, shape
            (documents + 1,).
        source: Number of each document's source, shape (documents,).
        split: Number of its split, in the order of ``SPLITS``, shape (documents,).
        size: UTF-8 bytes of each document, shape (documents,).
        left_out: Training documents that each source's were without, as they repeat a held-out one.
    """

    tokens: NDArray[np.unsignedinteger]
    starts: NDArray[np.int64]
    source: NDArray[np.int64]
    split: NDArray[np.int64]
    size: NDArray[np.int64]
    left_out: tuple[int, ...]

    def documents(self, split: str, source: int | None = None) -> NDArray[np.int64]:
        """Give the numbers of a split's documents, of one source or of all."""
        mine = self.split == SPLITS.index(split)
        if source is not None:
            mine &= self.source == source
        return np.flatnonzero(mine)

    def document(self, number: int) -> NDArray[np.int64]:
        """Give one document's token numbers."""
        return self.tokens[self.starts[number] : self.starts[number + 1]].astype(np.int64)

    def lengths(self) -> NDArray[np.int64]:
        """Give each document's number of tokens."""
        return np.diff(self.starts)


def write(
    sources: list[Source],
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    end: int | None,
    progress: Progress = silent,
) -> Stream:
    """Tokenize every text once; a folder that is there is whole and is opened.

    Args:
        sources: Any number.
        tokenizer: The backbone's.
        folder: Where the stream is to lie.
        end: The token behind each document; None for none.
        progress: Told how far it is.
    """
    if (folder / ABOUT).exists():
        return read(folder)
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    kind = np.dtype(np.uint16 if len(tokenizer) <= 2**16 else np.uint32)
    rows: list[tuple[int, int, int, int]] = []
    total = max(1, sum(source.characters() for source in sources))
    done = 0
    with (unfinished / "tokens.bin").open("wb") as stream:
        for number, source in enumerate(sources):
            for texts in _groups(source):
                found = plain_tokens(tokenizer, [text.text for text in texts])
                for text, ids in zip(texts, found, strict=True):
                    whole = ids if end is None else [*ids, end]
                    stream.write(np.array(whole, dtype=kind).tobytes())
                    size = len(text.text.encode("utf-8", "replace"))
                    rows.append((number, SPLITS.index(text.split), len(whole), size))
                    done += len(text.text)
                progress(min(1.0, done / total), f"tokenizing {source.name}")
    np.save(unfinished / "documents.npy", np.array(rows, dtype=np.int64).reshape(-1, 4))
    left_out = [source.left_out for source in sources]
    about = {"dtype": kind.name, "documents": len(rows), "left_out": left_out}
    (unfinished / ABOUT).write_text(json.dumps(about), encoding="utf-8")
    unfinished.rename(folder)
    return read(folder)


def read(folder: Path) -> Stream:
    """Open a stream that was written."""
    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    rows = np.load(folder / "documents.npy", allow_pickle=False)
    file = folder / "tokens.bin"
    kind = np.dtype(about["dtype"])
    tokens = np.memmap(file, dtype=kind, mode="r") if file.stat().st_size else np.zeros(0, kind)
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(rows[:, 2])])
    return Stream(tokens, starts, rows[:, 0], rows[:, 1], rows[:, 3], tuple(about["left_out"]))


def _groups(source: Source) -> Iterator[list[Text]]:
    group: list[Text] = []
    for text in source:
        if text.text.strip():
            group.append(text)
        if len(group) == TEXTS_A_CALL:
            yield group
            group = []
    if group:
        yield group
