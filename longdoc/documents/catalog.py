"""Every data set's card, in one list, and one way to load any of them."""

import contextlib
import functools
import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from longdoc.documents import (
    archives,
    bytecode,
    echr_acl2019,
    ecthr,
    eurlex57k,
    files,
    git_log,
    pan18,
    pubmed,
    python_imports,
    reuters_21578,
    speeches,
    splits,
    synthetic,
)
from longdoc.documents.document import SPLITS, Card, Corpus
from longdoc.documents.git_log import GitSettings
from longdoc.documents.leaks import Handling
from longdoc.documents.pubmed import PubmedSettings
from longdoc.documents.synthetic import SyntheticSettings
from longdoc.errors import DataError, SettingsError, nearest
from longdoc.registry import Registry
from longdoc.settings import chosen, require

FEWEST_IMPORTS = 5
"""Training documents a label of python-imports has at least."""
MOST_FOLDS = 20
"""Each is a whole training; more would hardly add documents to any: our choice."""
FOLDS_ALLOWED = f"2 to {MOST_FOLDS}"
DATASETS = Registry[Card]("data set")
READERS: dict[str, Callable[[str, str | None], Corpus]] = {
    module.CARD.name: module.load for module in (reuters_21578, eurlex57k, speeches, pan18)
}
for benchmark in (ecthr.LEXGLUE_A, ecthr.LEXGLUE_B):
    READERS[benchmark.name] = functools.partial(ecthr.load_lexglue, benchmark)
for card in (
    python_imports.CARD, reuters_21578.CARD, echr_acl2019.CARD, eurlex57k.CARD, speeches.CARD,
    ecthr.CARD, ecthr.LEXGLUE_A, ecthr.LEXGLUE_B, pubmed.CARD, pan18.CARD, git_log.CARD,
    bytecode.CARD, synthetic.CARD,
):  # fmt: skip
    DATASETS.add(card.name, card)


MADE_HERE = (python_imports.CARD.name, synthetic.CARD.name, bytecode.CARD.name)
"""Data sets without files of their own."""
OF_OWN_DOCUMENTS = (
    "text_field",
    "label_fields",
    "label_separator",
    "id_field",
    "split_field",
    "group_field",
)
"""Settings that a catalogue data set, whose makers gave it a form, has no use for."""


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Which documents, and how they are split."""

    dataset: str = chosen("python-imports", "the one that needs no download")
    """A catalogue name (see `longdoc datasets`), git-log: and the path of a repository, or the path
    of own documents: a .jsonl, .csv or .parquet file, or a folder."""
    task: str | None = chosen(None, "the first task of the data set's card")
    """Which of the data set's tasks."""
    path: str | None = chosen(None, "looked for in LONGDOC_DATA, then in the cache")
    """Where a catalogue data set's official folder or archive lies."""
    text_field: str | None = chosen(None, "the usual names: text, paragraphs, facts ...")
    """Own documents: the column that holds the text or a list of paragraphs."""
    label_fields: tuple[str, ...] | None = chosen(None, "the usual names, or all 0/1 columns")
    """Own documents: the label column, or several 0/1 columns."""
    label_separator: str | None = chosen(None, "a label may hold any character")
    """Own documents: what separates several labels in one text field, such as ;"""
    id_field: str | None = chosen(None, "id, or else file and line")
    """Own documents: the column that identifies a document."""
    split_field: str | None = chosen(None, "split, if there is one")
    """Own documents: the column that says train, validation or test."""
    group_field: str | None = chosen(None, "each document stands alone")
    """Own documents: the column that says which belong together, such as the letters of one client
    or the decisions of one case; they stay in one split and one fold, and shares are of groups."""
    validation_share: float = chosen(
        0.1,
        "one training document in ten; huang2021balancing's code takes 1,000 of Reuters' 7,769",
        unit="share of training documents",
    )
    """How much of training becomes validation where the data set has none."""
    folds: int | None = chosen(None, "one part for validation costs one training")
    """Cross-fitting: so many systems are trained, each without one fold of the training documents,
    and averaged; thresholds are chosen on what each says of the fold it did not see, so on all
    training documents. Documents that a data set has for validation join its training documents."""
    fold: int | None = chosen(None, "all of them, one after another, as one system")
    """Which fold is validation, from 1, where only one of `data.folds` is to be trained."""
    test_share: float = chosen(0.2, "one document in five, usual in scikit-learn's examples")
    """How much of own documents becomes the test where they have none."""
    split_seed: int = chosen(0, "any fixed number; recorded with every run", unit="seed")
    """Seed of every split and subset."""
    min_train_documents: int | None = chosen(
        None, "5 for python-imports: below that nothing can be learnt; else every label is kept"
    )
    """Multi-label: labels with fewer training documents are left out; documents stay."""
    leaks: Handling = chosen("mask", "a score must not live on sentences that tell the outcome")
    """echr-acl2019: whether sentences with "there has (or had) been a (or no) violation of Article"
    or "alleged violation of Article" are masked, dropped or kept; a run records how many documents
    have them."""
    silver: bool = chosen(False, "what a reader of a new case has: all its facts")
    """ecthr-cases: keep only the paragraphs that the court's reasoning refers to."""
    mask_label_names: bool = chosen(True, "a module's own name would give the answer away")
    """python-imports: whether module names are masked in the text."""
    bytecode_names: bool = chosen(False, "as bare as a stripped program: common words tell nothing")
    """bytecode: whether the disassembly has names and constants."""
    pubmed: PubmedSettings = field(default_factory=PubmedSettings)
    git: GitSettings = field(default_factory=GitSettings)
    synthetic: SyntheticSettings = field(default_factory=SyntheticSettings)
    train_documents: int | None = chosen(None, "all of them", unit="documents")
    """Draw only so many training documents, labels in proportion unless they are thousands."""
    validation_documents: int | None = chosen(None, "all of them", unit="documents")
    """Draw only so many validation documents."""
    test_documents: int | None = chosen(None, "all of them", unit="documents")
    """Draw only so many test documents."""

    def __post_init__(self) -> None:
        for name in ("validation_share", "test_share"):
            value = getattr(self, name)
            require(0 < value < 1, f"data.{name}", "between 0 and 1", value)
        seed = self.split_seed
        require(0 <= seed < 2**32, "data.split_seed", "0 or more, and below 2**32", seed)
        self._check_folds()
        for split in SPLITS:
            size = getattr(self, f"{split}_documents")
            require(size is None or size > 0, f"data.{split}_documents", "above 0", size)

    def _check_folds(self) -> None:
        number, fold, drawn = self.folds, self.fold, self.validation_documents
        require(number is None or 2 <= number <= MOST_FOLDS, "data.folds", FOLDS_ALLOWED, number)
        if number is None:
            require(fold is None, "data.fold", "left out without data.folds", fold)
            return
        require(fold is None or 1 <= fold <= number, "data.fold", f"1 to {number}", fold)
        what = "left out with data.folds, where every training document is one of validation too"
        require(drawn is None, "data.validation_documents", what, drawn)


def load(settings: DataSettings) -> Corpus:
    """Load documents as the data set's makers split them.

    Raises:
        SettingsError: The task is unknown or a share is out of range.
        DataError: The data is missing, damaged, or not what it should be.
    """
    with _no_collection():
        return _load(settings)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python's collector from looking through a million fresh texts again and again.

    Nothing that is read is garbage; this would add a third to the time of reading EURLEX57K.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _load(settings: DataSettings) -> Corpus:
    from_git = settings.dataset.startswith(git_log.PREFIX)
    if from_git or settings.dataset in DATASETS:
        made_here = from_git or settings.dataset in MADE_HERE
        for name in (*OF_OWN_DOCUMENTS, *(["path"] if made_here else [])):
            value = getattr(settings, name)
            require(value is None, f"data.{name}", f"left out for {settings.dataset}", value)
    if from_git:
        require(settings.task in (None, "author"), "data.task", "author", settings.task)
        return git_log.load(settings.dataset.removeprefix(git_log.PREFIX), settings.git)
    if settings.dataset not in DATASETS:
        require(settings.task is None, "data.task", "left out for own documents", settings.task)
        require(settings.path is None, "data.path", "left out for own documents", settings.path)
        return _own(settings)
    card = DATASETS[settings.dataset]
    task = settings.task or next(iter(card.tasks))
    if task not in card.tasks:
        message = f"{card.name} has no task {task!r}; {nearest(task, card.tasks)}"
        raise SettingsError(message)
    corpus = _catalogued(card, task, settings)
    if card.documents:
        check_counts(card, corpus)
    return corpus


def _catalogued(card: Card, task: str, settings: DataSettings) -> Corpus:
    """Call a data set's reader with the settings that are its own."""
    path, seed = settings.path, settings.split_seed
    own: dict[str, Callable[[], Corpus]] = {
        python_imports.CARD.name: lambda: python_imports.load(
            task,
            min_train_documents=_fewest(settings) or 1,
            mask=settings.mask_label_names,
            seed=seed,
        ),
        synthetic.CARD.name: lambda: synthetic.load(task, settings.synthetic, seed),
        bytecode.CARD.name: lambda: bytecode.load(task, names=settings.bytecode_names, seed=seed),
        echr_acl2019.CARD.name: lambda: echr_acl2019.load(task, path, handling=settings.leaks),
        ecthr.CARD.name: lambda: ecthr.load(task, path, silver=settings.silver),
        pubmed.CARD.name: lambda: pubmed.load(
            task,
            path,
            settings.pubmed,
            {"validation": settings.validation_share, "test": settings.test_share},
            seed,
        ),
    }
    if card.name in own:
        return own[card.name]()
    return READERS[card.name](task, path)


def _own(settings: DataSettings) -> Corpus:
    fields = files.Fields(
        text=settings.text_field,
        labels=settings.label_fields,
        id=settings.id_field,
        split=settings.split_field,
        separator=settings.label_separator,
        group=settings.group_field,
    )
    try:
        return files.load(settings.dataset, fields)
    except DataError as error:
        if "there is no file or folder" in str(error):
            message = (
                f"{error}, and no data set of that name; {nearest(settings.dataset, DATASETS)}"
            )
            raise DataError(message) from error
        raise


def check_counts(card: Card, corpus: Corpus) -> None:
    """Refuse a copy whose documents a split are not the published ones.

    Raises:
        DataError: With what was expected and found.
    """
    expected = card.documents[corpus.task]
    found = {split: len(corpus.splits[split]) for split in SPLITS}
    if found != dict(expected):
        where = corpus.notes.get("path", corpus.name)
        message = f"{where}: not a whole copy of {card.name}: expected {expected}, found {found}"
        raise DataError(message)


def place(card: Card) -> Path | None:
    """Say where the files of a catalogue data set are on this machine; None where it needs none.

    Raises:
        DataError: It needs some, and they are not here.
    """
    if card.name in MADE_HERE or card.name.startswith(git_log.PREFIX):
        return None
    if card.name == pubmed.CARD.name:
        return pubmed.locate()
    return archives.locate(card) if card.layout else ecthr.locate(card)


def check_here(settings: DataSettings) -> None:
    """Refuse documents that are not on this machine, without reading any.

    Raises:
        DataError: Where they were looked for.
    """
    if settings.dataset in DATASETS:
        if settings.path is None:
            place(DATASETS[settings.dataset])
    elif not settings.dataset.startswith(git_log.PREFIX) and not Path(settings.dataset).exists():
        _own(settings)


def prepare(settings: DataSettings) -> Corpus:
    """Load documents ready for training: every split there, and the asked-for number of each.

    Raises:
        LongdocError: As :func:`load`.
    """
    corpus, seed = load(settings), settings.split_seed
    held = settings.validation_share if settings.folds is None else None
    corpus = splits.complete(corpus, held, settings.test_share, seed)
    if settings.folds is not None:
        corpus = splits.joined(corpus)
    sizes = {split: getattr(settings, f"{split}_documents") for split in SPLITS}
    corpus = splits.subset(corpus, sizes, seed)
    fewest = _fewest(settings)
    if fewest is not None:
        what = f"left out for {corpus.name}, a {corpus.kind} task"
        require(corpus.kind == "multi-label", "data.min_train_documents", what, fewest)
        corpus = splits.without_rare(corpus, fewest)
    if settings.folds is not None:
        corpus = splits.crossed(corpus, settings.folds, settings.fold, seed)
    return corpus


def _fewest(settings: DataSettings) -> int | None:
    """Say how many training documents a label must have, if that is asked for."""
    if settings.min_train_documents is None and settings.dataset == python_imports.CARD.name:
        return FEWEST_IMPORTS
    return settings.min_train_documents
