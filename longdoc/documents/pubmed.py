"""``pubmed-mesh``: BioASQ's articles of PubMed with their MeSH headings.

The file has millions of articles; it is read as a stream, and a sample of bounded size is kept.
"""

import hashlib
import heapq
import itertools
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longdoc.documents.archives import search_folders
from longdoc.documents.document import Card, Corpus, Document, make_corpus
from longdoc.documents.json_stream import objects
from longdoc.documents.tables import readable
from longdoc.errors import DataError
from longdoc.settings import chosen, require

CARD = Card(
    name="pubmed-mesh",
    summary="Titles and abstracts of PubMed with MeSH headings: thousands of labels, a long tail",
    tasks={"headings": "multi-label: the MeSH headings of an article"},
    licence="as the National Library of Medicine and BioASQ allow; registration with BioASQ",
    address="http://participants-area.bioasq.org/datasets",
    reference="tsatsaronis2015bioasq",
    documents={},
    single="pubmed-mesh",
    terms="For registered participants; do not redistribute.",
)
PATTERNS = ("pubmed-mesh.json", "allMeSH*.json", "training*.json")
YEAR = re.compile(r"[0-9]{1,4}")


@dataclass(frozen=True, kw_only=True)
class PubmedSettings:
    """Which of millions of articles are kept."""

    documents: int = chosen(
        100_000, "fits into half a gigabyte of memory; more of it than is learnt from in a day",
        unit="documents",
    )  # fmt: skip
    """How many articles are kept, in all splits: those whose hashed identifiers come first."""
    first_year: int | None = chosen(None, "all years", unit="year")
    """Leave older articles out."""

    def __post_init__(self) -> None:
        require(self.documents > 0, "data.pubmed.documents", "above 0", self.documents)


def load(
    task: str, path: str | None, settings: PubmedSettings, shares: Mapping[str, float], seed: int
) -> Corpus:
    """Read the whole file once, and keep a sample.

    Which articles are kept, and their split, follow from identifier and seed alone, so a longer
    file of a later year changes neither for those that stay.

    Args:
        task: Of ``CARD.tasks``.
        path: The file: ``.json``, ``.json.gz`` or ``.zip``; looked for without.
        settings: How many are kept, and from which year.
        shares: Of ``validation`` and ``test``.
        seed: Of sample and splits.

    Raises:
        DataError: The file is missing or damaged, or an article is not what it should be.
    """
    together = shares["validation"] + shares["test"]
    allowed = "below 1 together, so that something is left to learn from"
    require(together < 1, "data.validation_share and data.test_share", allowed, together)
    file = locate(path)
    kept: list[tuple[float, int, Document]] = []
    identifiers: set[str] = set()
    seen, order = 0, itertools.count()
    for place, article in objects(file, "articles"):
        seen += 1
        document = _document(place, article, settings.first_year)
        if document is None or document.id in identifiers:
            continue
        rank = -_share(f"{seed} sample {document.id}")
        if len(kept) < settings.documents:
            heapq.heappush(kept, (rank, next(order), document))
        elif rank > kept[0][0]:
            _, _, out = heapq.heapreplace(kept, (rank, next(order), document))
            identifiers.discard(out.id)
        else:
            continue
        identifiers.add(document.id)
    if not kept:
        message = (
            f"{file}: of {seen} articles none has a title or an abstractText"
            f"{f', and a year from {settings.first_year} on' if settings.first_year else ''}"
        )
        raise DataError(message)
    splits: dict[str, list[Document]] = {"train": [], "validation": [], "test": []}
    for _, _, document in kept:
        splits[_split(_share(f"{seed} split {document.id}"), shares)].append(document)
    splits = {name: sorted(part, key=lambda d: d.id) for name, part in splits.items()}
    notes = {
        "path": str(file),
        "articles_in_the_file": seen,
        "articles_kept": len(kept),
        "split_by": "hashed identifier",
        "split_seed": seed,
    }
    return make_corpus(CARD.name, task, "multi-label", splits, notes=notes)


def _share(text: str) -> float:
    """Give a number in 0..1 that looks drawn by chance and is the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) / 2**64


def _split(share: float, shares: Mapping[str, float]) -> str:
    if share < shares["test"]:
        return "test"
    return "validation" if share < shares["test"] + shares["validation"] else "train"


def locate(path: str | None = None) -> Path:
    """Find the file of articles.

    Raises:
        DataError: It is in none of the places.
    """
    if path is not None:
        if Path(path).is_file():
            return Path(path)
        message = f"{CARD.name}: there is no file {path}"
        raise DataError(message)
    for folder in search_folders():
        for found in _candidates(folder):
            return found
    places = " or ".join(str(folder) for folder in search_folders())
    message = (
        f"{CARD.name} is not on this machine: put {' or '.join(PATTERNS[:2])} (also .gz, .zip) "
        f"into {places}, or set data.path to the file; its home is {CARD.address}"
    )
    raise DataError(message)


def _candidates(folder: Path) -> Iterator[Path]:
    for place in (folder, folder / CARD.name):
        for pattern in PATTERNS:
            for name in (pattern, pattern + ".gz", pattern.removesuffix(".json") + ".zip"):
                yield from sorted(f for f in place.glob(name) if f.is_file())


def _document(place: str, article: dict[str, Any], first_year: int | None) -> Document | None:
    """Give an article's document; None for one without text, or from before the first year."""
    year = _text(place, article, "year")
    if first_year is not None and not (YEAR.fullmatch(year) and int(year) >= first_year):
        return None
    title, abstract = (_text(place, article, field) for field in ("title", "abstractText"))
    paragraphs = tuple(part for part in (title, abstract) if part)
    if not paragraphs:
        return None
    headings = article.get("meshMajor")
    if not isinstance(headings, list) or not all(isinstance(h, str) for h in headings):
        message = f"{place}: field meshMajor must be a list of headings; got {str(headings)[:60]!r}"
        raise DataError(message)
    labels = tuple(dict.fromkeys(sys.intern(readable(heading)) for heading in headings))
    identifier = _text(place, article, "pmid") or place.rpartition(" ")[2]
    about = {"date": sys.intern(year)} if year else {}
    return Document(identifier, paragraphs, labels, about=about, heading=int(bool(title)))


def _text(place: str, article: dict[str, Any], field: str) -> str:
    value = article.get(field)
    if value is None:
        return ""
    if isinstance(value, str | int):
        return readable(str(value)).strip()
    message = f"{place}: field {field} must be text; got {str(value)[:60]!r}"
    raise DataError(message)
