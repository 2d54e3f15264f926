"""Reuters-21578, Distribution 1.0: newswire of 1987 with topics, read from its SGML files."""

import html
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from longdoc.documents.archives import checksum, locate, members
from longdoc.documents.document import Card, Corpus, Document, Download, by_frequency, make_corpus
from longdoc.errors import DataError

CARD = Card(
    name="reuters-21578",
    summary="Newswire stories of 1987 with economic topics: short, multi-label, long-tailed",
    tasks={
        "r90": "multi-label: topics with at least one training and one test document (90)",
        "r10": "multi-label: the ten topics with the most training documents",
        "modapte": "multi-label: the ModApte split with all topics of its training part (115)",
    },
    licence="free for research; cite Reuters-21578, Distribution 1.0; do not redistribute",
    address="https://archive.ics.uci.edu/dataset/137",
    reference="lewis1997reuters",
    # r90: 7,770 as counted in the files; NLTK's copy, which papers often use, has 7,769.
    documents={
        "r90": {"train": 7770, "validation": 0, "test": 3019},
        "r10": {"train": 6490, "validation": 0, "test": 2545},
        "modapte": {"train": 9603, "validation": 0, "test": 3299},
    },
    checksum="76e96e3c0338f6966f46205fea25e3b8fd52c0dc657b942c17744c1f4e898a37",
    layout=("reuters21578", "reuters-21578", "reuters"),
    downloads=(
        Download(
            file="reuters21578.tar.gz",
            addresses=(
                "https://archive.ics.uci.edu/ml/machine-learning-databases/reuters21578-mld/"
                "reuters21578.tar.gz",
                "https://kdd.ics.uci.edu/databases/reuters21578/reuters21578.tar.gz",
            ),
        ),
    ),
    terms="Free for research only; do not redistribute.",
)

STORY = re.compile(r"<REUTERS(?P<head>[^>]*)>(?P<body>.*?)</REUTERS>", re.DOTALL)
TOPICS = re.compile(r"<TOPICS>(.*?)</TOPICS>", re.DOTALL)
TOPIC = re.compile(r"<D>(.*?)</D>")
TITLE = re.compile(r"<TITLE>(.*?)</TITLE>", re.DOTALL)
BODY = re.compile(r"<BODY>(.*?)</BODY>", re.DOTALL)
TEXT = re.compile(r"<TEXT[^>]*>(.*?)</TEXT>", re.DOTALL)
TAG = re.compile(r"<[^>]*>")
CONTROL = re.compile(r"&#\d+;|[\x00-\x08\x0b-\x1f]")


def load(task: str, path: str | None = None) -> Corpus:
    """Read ModApte; ``r90`` and ``r10`` keep some topics, and the documents that have one of them.

    Raises:
        DataError: Files are missing or damaged, or the counts are not the published ones.
    """
    found = locate(CARD, path)
    files = list(members(found, _is_story_file))
    if len(files) != 22:
        message = f"{found}: expected reut2-000.sgm to reut2-021.sgm, found {len(files)} of 22"
        if len(files) > 22:
            message += "; an archive of them beside the files is read as well: move one away"
        raise DataError(message)
    splits: dict[str, list[Document]] = {"train": [], "validation": [], "test": []}
    for name, content in sorted(files, key=lambda file: PurePosixPath(file[0]).name):
        for split, document in _stories(name, content.decode("latin-1")):
            splits[split].append(document)
    splits = {split: sorted(part, key=lambda d: int(d.id)) for split, part in splits.items()}
    topics = set(by_frequency(splits["train"]))
    if task == "r90":
        topics &= set(by_frequency(splits["test"]))
    if task == "r10":
        topics = set(by_frequency(splits["train"])[:10])
    if task != "modapte":
        splits = {split: _restrict(part, topics) for split, part in splits.items()}
    labels = [label for label in by_frequency(splits["train"]) if label in topics]
    digest = checksum(files)
    notes = {"path": str(found), "checksum": digest, "checksum_known": digest == CARD.checksum}
    return make_corpus(CARD.name, task, "multi-label", splits, labels=labels, notes=notes)


def _is_story_file(name: str) -> bool:
    return re.fullmatch(r"reut2-0[0-2]\d\.sgm", PurePosixPath(name).name) is not None


def _restrict(documents: list[Document], topics: set[str]) -> list[Document]:
    kept = []
    for document in documents:
        labels = tuple(label for label in document.labels if label in topics)
        if labels:
            kept.append(Document(document.id, document.paragraphs, labels))
    return kept


def _stories(name: str, content: str) -> Iterator[tuple[str, Document]]:
    """Yield the ModApte stories of one file with their split."""
    stories = list(STORY.finditer(content))
    if not stories:
        message = f"{name}: no <REUTERS> story in it"
        raise DataError(message)
    for story in stories:
        head = dict(re.findall(r'(\w+)="([^"]*)"', story["head"]))
        split = {"TRAIN": "train", "TEST": "test"}.get(head.get("LEWISSPLIT", ""))
        if split is None or head.get("TOPICS") != "YES":
            continue
        if not re.fullmatch("[0-9]{1,9}", head.get("NEWID", "")):
            message = f"{name}: a story without a number in NEWID: {story['head'][:60]!r}"
            raise DataError(message)
        body = story["body"]
        listed = TOPICS.search(body)
        labels = tuple(dict.fromkeys(TOPIC.findall(listed[1]))) if listed else ()
        yield split, Document(head["NEWID"], _paragraphs(body), labels)


def _paragraphs(story: str) -> tuple[str, ...]:
    """Take title and body; stories of type UNPROC have bare text only."""
    parts = [match[1] for match in (TITLE.search(story), BODY.search(story)) if match]
    if not parts:
        text = TEXT.search(story)
        parts = [TAG.sub(" ", text[1])] if text else []
    cleaned = [html.unescape(CONTROL.sub(" ", part)).strip() for part in parts]
    return tuple(part for part in cleaned if part)
