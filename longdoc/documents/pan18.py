"""PAN 2018, cross-domain authorship attribution: who of a few candidates wrote which text?

Each problem is a task of its own: the texts known to be by its candidates are for training, the
unknown ones, from another domain, are the test.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from longdoc.documents.archives import checksum, locate, members
from longdoc.documents.document import Card, Corpus, Document, make_corpus
from longdoc.errors import DataError

COLLECTIONS = {"training-dataset": "train", "test-dataset2": "test"}
"""What the folder of each collection has in its name, and what its tasks begin with."""
KNOWN_TEXTS = 7
UNKNOWN = {
    "train": {20: (105, 49, 80, 103, 117), 5: (21, 21, 46, 15, 64)},
    "test": {
        20: (79, 95, 95, 125, 133), 15: (74, 77, 72, 100, 103),
        10: (40, 47, 30, 42, 70), 5: (16, 19, 40, 33, 25),
    },
}  # fmt: skip
"""Unknown texts by candidates, in en, fr, it, pl, sp: counted in the official files, whose totals
are those of kestemont2018pan."""
LANGUAGES = ("en", "fr", "it", "pl", "sp")
PLACE = re.compile(r"(?P<collection>[^/]+)/(?P<problem>problem\d{5})/(?P<rest>.+)")


def _tasks() -> dict[str, tuple[str, int, int]]:
    """Give every task's language, candidates and unknown texts."""
    found = {}
    for collection, sizes in UNKNOWN.items():
        place = 0
        for row, language in enumerate(LANGUAGES):
            for candidates, unknown in sizes.items():
                place += 1
                found[f"{collection}-problem{place:05}"] = (language, candidates, unknown[row])
    return found


TASKS = _tasks()
CARD = Card(
    name="pan18-attribution",
    summary="Fan fiction in five languages, thirty problems of 5 to 20 candidate authors",
    tasks={
        name: f"multi-class: {candidates} candidates, {language}, {unknown} unknown texts"
        for name, (language, candidates, unknown) in TASKS.items()
    },
    licence="research only; do not redistribute",
    address="https://pan.webis.de/clef18/pan18-web/authorship-attribution.html",
    reference="kestemont2018pan",
    documents={
        name: {"train": KNOWN_TEXTS * candidates, "validation": 0, "test": unknown}
        for name, (_, candidates, unknown) in TASKS.items()
    },
    checksum="d72e621462661e49cec0b9b3a501b866a3c710ac64ca46b8e2ce8bac20961d3d",
    layout=(
        "pan18-cdaa",
        "pan18-attribution",
        "pan18-cross-domain-authorship-attribution-training-dataset-2017-12-02",
    ),
    terms="For research only; never redistribute.",
)


@dataclass(frozen=True)
class Problem:
    """One attribution problem.

    Attributes:
        name: ``train-problem00001`` and so on.
        language: ``en``, ``fr``, ``it``, ``pl`` or ``sp``.
        candidates: Authors, as the problem names them.
        known: Texts by them, each labelled with its author.
        unknown: Texts to attribute, each labelled with its true author.
    """

    name: str
    language: str
    candidates: tuple[str, ...]
    known: tuple[Document, ...]
    unknown: tuple[Document, ...]


def problems(path: str | None = None) -> tuple[list[Problem], Mapping[str, object]]:
    """Read every problem of the collections that are there.

    Args:
        path: Folder or archive with the official folders; looked for without.

    Returns:
        The problems, and what is noted of the copy: path and checksum.

    Raises:
        DataError: Files are missing or damaged, or name authors or texts that are not there.
    """
    found = locate(CARD, path)
    files = list(members(found, lambda name: name.endswith((".txt", ".json"))))
    groups: dict[str, dict[str, bytes]] = {}
    languages: dict[str, str] = {}
    for inside, content in files:
        name = f"{found.name}/{inside}"  # of one collection's own folder or archive
        collection = _collection(inside) or _collection(found.name)
        place = PLACE.search(name)
        if place and collection:
            task = f"{collection}-{place['problem']}"
            groups.setdefault(task, {})[place["rest"]] = content
        elif PurePosixPath(name).name == "collection-info.json" and collection:
            for entry in _entries(name, content, None, ("problem-name", "language")):
                languages[f"{collection}-{entry['problem-name']}"] = entry["language"]
    if not groups:
        message = f"{found}: no problem folders of PAN 2018's training or test collection in it"
        raise DataError(message)
    read = [_problem(task, files, languages, found) for task, files in sorted(groups.items())]
    digest = checksum(files)
    return read, {"path": str(found), "checksum": digest, "checksum_known": digest == CARD.checksum}


def _collection(name: str) -> str:
    return next((begins for part, begins in COLLECTIONS.items() if part in name), "")


def load(task: str, path: str | None = None) -> Corpus:
    """Read one problem; its unknown texts are the test.

    Raises:
        DataError: As :func:`problems`, or this problem is not in the copy.
    """
    read, notes = problems(path)
    by_name = {problem.name: problem for problem in read}
    if task not in by_name:
        message = f"{notes['path']}: there is no {task} in it"
        raise DataError(message)
    problem = by_name[task]
    return make_corpus(
        CARD.name,
        task,
        "multi-class",
        {"train": problem.known, "test": problem.unknown},
        labels=problem.candidates,
        notes={**notes, "language": problem.language},
    )


def macro_f1(truth: Sequence[str], attributed: Sequence[str]) -> float:
    """Score one problem as the official evaluator does.

    Args:
        truth: The true author of each unknown text.
        attributed: The attributed one; any other text for none.

    Returns:
        F1 averaged over the true authors; texts attributed to nobody, or to authors who wrote none
        of the unknown texts, count as misses.

    Source:
        kestemont2018pan, organisers' pan18-cdaa-evaluator.py, eval_measures.

    Example:
        >>> round(macro_f1(["a", "a", "b"], ["a", "b", "b"]), 3)
        0.667
    """
    scores = []
    for author in sorted(set(truth)):
        pairs = list(zip(truth, attributed, strict=True))
        hits = sum(true == given == author for true, given in pairs)
        claimed = sum(given == author for given in attributed)
        scores.append(2 * hits / (claimed + sum(true == author for true in truth)))
    return sum(scores) / len(scores)


def _problem(
    task: str, files: Mapping[str, bytes], languages: Mapping[str, str], found: Path
) -> Problem:
    where = f"{found}: {task}"
    for name in ("problem-info.json", "ground-truth.json"):
        if name not in files:
            message = f"{where}: no {name}"
            raise DataError(message)
    info = files["problem-info.json"]
    authors = _entries(f"{where}/problem-info.json", info, "candidate-authors", ("author-name",))
    candidates = tuple(entry["author-name"] for entry in authors)
    truths = _entries(
        f"{where}/ground-truth.json",
        files["ground-truth.json"],
        "ground_truth",
        ("unknown-text", "true-author"),
    )
    true = {entry["unknown-text"]: entry["true-author"] for entry in truths}
    known, unknown = [], []
    for name, content in sorted(files.items()):
        folder, _, file = name.rpartition("/")
        if folder in candidates:
            known.append(Document(name, _text(f"{where}/{name}", content), (folder,)))
        elif folder == "unknown":
            author = true.pop(file, "")
            if author not in candidates:
                message = f"{where}/{name}: its true author {author!r} is no candidate"
                raise DataError(message)
            unknown.append(Document(name, _text(f"{where}/{name}", content), (author,)))
    if true:
        message = f"{where}/ground-truth.json: no text {next(iter(true))!r} in the folder unknown"
        raise DataError(message)
    language = languages.get(task, "")
    return Problem(task, language, candidates, tuple(known), tuple(unknown))


def _text(where: str, content: bytes) -> tuple[str, ...]:
    try:
        return (content.decode("utf-8-sig"),)
    except UnicodeDecodeError as error:
        message = f"{where}: not UTF-8: {error}"
        raise DataError(message) from error


def _entries(
    where: str, content: bytes, key: str | None, fields: Iterable[str]
) -> list[dict[str, str]]:
    """Read a list of objects with some texts in each."""
    try:
        value: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        message = f"{where}: not a JSON file: {error}"
        raise DataError(message) from error
    rows = value
    if key is not None:
        rows = value.get(key) if isinstance(value, dict) else None
    names = tuple(fields)
    if isinstance(rows, list) and all(_has_texts(row, names) for row in rows):
        return rows
    message = f"{where}: expected a list of objects with {', '.join(names)}"
    raise DataError(message)


def _has_texts(row: Any, names: Iterable[str]) -> bool:
    return isinstance(row, dict) and all(isinstance(row.get(name), str) for name in names)
