"""Train, validation and test by document, reproducibly, with labels in proportion."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from longdoc.documents import remarks
from longdoc.documents.document import Corpus, Document, by_frequency, make_corpus
from longdoc.errors import DataError

MOST_MARKS = 250_000_000
"""Documents times labels up to which labels are kept in proportion; the matrix takes eight bytes
each."""
MOST_WORK = 100_000_000_000
"""The same of documents times labels squared: iterative stratification looks at what is left of the
matrix once a label. Our choice; 8 seconds were measured for a fifth of it."""


def part_off(
    documents: Sequence[Document], share: float, seed: int
) -> tuple[list[Document], list[Document]]:
    """Split documents in two with labels in proportion.

    Args:
        documents: In any order; the result keeps it.
        share: Share of the second part, between 0 and 1; at least one document.
        seed: Same seed, same split.

    Without labels, or where there are too many of them (``MOST_MARKS``, ``MOST_WORK``), the
    documents are drawn by chance.

    Source:
        sechidis2011stratification.
    """
    if not _can_stratify(documents):
        rows, others = _by_chance(len(documents), share, seed)
    else:
        rows, others = _shuffle(_marks(documents), share, seed)
    return [documents[i] for i in rows], [documents[i] for i in others]


def _can_stratify(documents: Sequence[Document]) -> bool:
    labels = {label for document in documents for label in document.labels}
    marks = len(documents) * len(labels)
    return 0 < marks <= MOST_MARKS and marks * len(labels) <= MOST_WORK


def _marks(documents: Sequence[Document]) -> NDArray[np.int64]:
    """Give the label matrix with a column for 'no label', so that these are spread as well."""
    labels = by_frequency(documents)
    columns = {label: column for column, label in enumerate(labels)}
    marks = np.zeros((len(documents), len(labels) + 1), dtype=np.int64)
    for row, document in enumerate(documents):
        for label in document.labels:
            marks[row, columns[label]] = 1
        marks[row, -1] = not document.labels
    return marks


def _wanted(documents: int, share: float) -> int:
    wanted = max(1, round(share * documents))
    if wanted >= documents:
        message = (
            f"cannot part {share:g} off {documents} documents; "
            f"give more documents, or splits of your own"
        )
        raise DataError(message)
    return wanted


def _by_chance(documents: int, share: float, seed: int) -> tuple[list[int], list[int]]:
    wanted = _wanted(documents, share)
    order = np.random.default_rng(seed).permutation(documents)
    return sorted(order[wanted:].tolist()), sorted(order[:wanted].tolist())


def _shuffle(marks: NDArray[np.int64], share: float, seed: int) -> tuple[list[int], list[int]]:
    from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit  # 100 MB of memory

    wanted = _wanted(len(marks), share)
    # It rounds up, and must leave a document.
    size = share if math.ceil(share * len(marks)) < len(marks) else wanted
    splitter = MultilabelStratifiedShuffleSplit(n_splits=1, test_size=size, random_state=seed)
    first, second = next(splitter.split(np.zeros(len(marks)), marks))
    return _of_size(first, second, wanted, np.random.default_rng(seed))


def _of_size(
    first: NDArray[np.int64], second: NDArray[np.int64], wanted: int, generator: np.random.Generator
) -> tuple[list[int], list[int]]:
    """Move documents at random until the second part has the size that was asked for.

    Stratifying by rare labels gives parts that are somewhat larger or smaller.
    """
    first, second = generator.permutation(first), generator.permutation(second)
    surplus = len(second) - wanted
    if surplus > 0:
        first, second = np.concatenate([first, second[:surplus]]), second[surplus:]
    elif surplus < 0:
        first, second = first[-surplus:], np.concatenate([second, first[:-surplus]])
    return sorted(first.tolist()), sorted(second.tolist())


def part_off_groups(
    documents: Sequence[Document], share: float, seed: int
) -> tuple[list[Document], list[Document]]:
    """Split as :func:`part_off` does; documents of one group stay together.

    Where there are groups the share is one of groups, as in scikit-learn's ``GroupShuffleSplit``:
    a document without one counts as a group of its own.
    """
    groups = _grouped(documents)
    if len(groups) == len(documents):
        return part_off(documents, share, seed)
    if len(groups) == 1:
        message = f"cannot part {share:g} off {len(documents)} documents that are all of one group"
        raise DataError(message)
    parts = part_off(_units(groups), share, seed)
    second = {document.id for unit in parts[1] for document in groups[int(unit.id)]}
    return (
        [document for document in documents if document.id not in second],
        [document for document in documents if document.id in second],
    )


def folds(documents: Sequence[Document], number: int, seed: int) -> list[list[Document]]:
    """Split documents into folds with labels in proportion; documents of one group stay together.

    Args:
        documents: In any order; each fold keeps it.
        number: Of folds.
        seed: Same seed, same folds.

    Raises:
        DataError: There are fewer documents, or groups of them, than folds.

    Source:
        sechidis2011stratification.
    """
    groups = _enough(documents, number)
    units = _units(groups)
    if not _can_stratify(units):
        order = np.random.default_rng(seed).permutation(len(units))
        parts = np.array_split(order, number)
    else:
        parts = _stratified_folds(_marks(units), number, seed)
    place = {d.id: fold for fold, part in enumerate(parts) for i in part for d in groups[i]}
    return [[d for d in documents if place[d.id] == fold] for fold in range(number)]


def _enough(documents: Sequence[Document], number: int) -> list[list[Document]]:
    """Give the groups of documents, which must be as many as there are folds."""
    groups = _grouped(documents)
    if len(groups) < number:
        message = (
            f"cannot split {len(groups)} documents, or groups that stay together, "
            f"into data.folds = {number}"
        )
        raise DataError(message)
    return groups


def _stratified_folds(marks: NDArray[np.int64], number: int, seed: int) -> list[NDArray[np.int64]]:
    from iterstrat.ml_stratifiers import MultilabelStratifiedKFold  # 100 MB of memory

    splitter = MultilabelStratifiedKFold(n_splits=number, shuffle=True, random_state=seed)
    return [held for _, held in splitter.split(np.zeros(len(marks)), marks)]


def split_groups(
    documents: Sequence[Document], shares: Mapping[str, float], seed: int, *, large: int
) -> dict[str, list[Document]]:
    """Split into train, validation and test; documents of one group stay together.

    Args:
        documents: With ``group`` set where documents belong together.
        shares: Share of each split; they add up to one.
        seed: Same seed, same splits.
        large: Groups of more documents go to training, so that no single one fills a test split.
    """
    groups = _grouped(documents)
    big = [d for members in groups if len(members) > large for d in members]
    small = [members for members in groups if len(members) <= large]
    units = _units(small)
    available = len(documents) - len(big)
    held = (shares["validation"] + shares["test"]) * len(documents) / max(1, available)
    train, rest = part_off(units, min(0.9, held), seed)
    validation, test = part_off(
        rest, shares["test"] / (shares["validation"] + shares["test"]), seed
    )
    parts = {"train": train, "validation": validation, "test": test}
    chosen = {name: [d for u in part for d in small[int(u.id)]] for name, part in parts.items()}
    chosen["train"] += big
    return {name: sorted(part, key=lambda d: d.id) for name, part in chosen.items()}


def _grouped(documents: Sequence[Document]) -> list[list[Document]]:
    groups: dict[tuple[bool, str], list[Document]] = {}
    for document in documents:
        key = (bool(document.group), document.group or document.id)
        groups.setdefault(key, []).append(document)
    return list(groups.values())


def group_numbers(documents: Sequence[Document]) -> NDArray[np.int64] | None:
    """Number the group of each document from 0, shape ``(n,)``; None where each stands alone."""
    groups = _grouped(documents)
    if len(groups) == len(documents):
        return None
    place = {id(member): number for number, members in enumerate(groups) for member in members}
    return np.array([place[id(document)] for document in documents])


def _units(groups: Sequence[Sequence[Document]]) -> list[Document]:
    """Let each group stand for one document that has the labels of all its members."""
    return [Document(str(i), (), _union(members)) for i, members in enumerate(groups)]


def _union(documents: Sequence[Document]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(label for document in documents for label in document.labels))


def complete(corpus: Corpus, validation: float | None, test: float, seed: int) -> Corpus:
    """Part validation and test documents off training where the data set has none.

    Documents of one group stay together, and shares are then shares of groups.

    Args:
        corpus: Any corpus; splits it has stay as they are.
        validation: Share of the training documents for validation, if it is missing; None leaves
            it so.
        test: Share of the training documents for the test, if it is missing.
        seed: Same seed, same splits.
    """
    splits = {name: list(part) for name, part in corpus.splits.items()}
    notes = dict(corpus.notes)
    for name, share in (("test", test), ("validation", validation)):
        if not splits[name] and share is not None:
            before = splits["train"]
            splits["train"], splits[name] = part_off_groups(before, share, seed)
            about: dict[str, float] = {"share": share, "seed": seed}
            groups = len(_grouped(before))
            if groups < len(before):
                taken = len(_grouped(splits[name])) / groups
                about["share_of_documents"] = round(len(splits[name]) / len(before), 4)
                remarks.uneven(corpus.name, name, taken, about["share_of_documents"])
            notes[f"{name}_parted_off_training"] = about
    if notes == corpus.notes:
        return corpus
    return _drawn(corpus, splits, notes)


def joined(corpus: Corpus) -> Corpus:
    """Let validation documents join the training documents, each once; none are left apart."""
    both = (*corpus.splits["train"], *corpus.splits["validation"])
    pool = tuple({document.id: document for document in both}.values())
    labels = corpus.labels
    if corpus.kind != "binary":
        borne = by_frequency(pool)
        known = set(borne)
        # A corpus may have labels on purpose that none of its training documents bears.
        labels = (*borne, *(label for label in corpus.labels if label not in known))
    parts = {"train": pool, "validation": (), "test": corpus.splits["test"]}
    return dataclasses.replace(corpus, labels=labels, splits=parts)


def crossed(corpus: Corpus, number: int, fold: int | None, seed: int) -> Corpus:
    """Make validation one fold of what is there to learn from, or all of it.

    Args:
        corpus: Any corpus; its own validation documents join its training documents, unless they
            are the same ones.
        number: Of folds.
        fold: The one that is validation, from 1; the rest is training. Without it both are all
            documents, for a system whose every part is validated on the fold it did not see.
        seed: Same seed, same folds.

    Returns:
        A corpus with the labels of all folds, also of those that training lacks.

    Raises:
        DataError: There are fewer documents, or groups of them, than folds.
    """
    whole = joined(corpus)
    pool = train = validation = whole.splits["train"]
    _enough(pool, number)  # before anything is trained
    if fold is not None:
        validation = tuple(folds(pool, number, seed)[fold - 1])
        held = {document.id for document in validation}
        train = tuple(document for document in pool if document.id not in held)
    parts = {**whole.splits, "train": train, "validation": validation}
    about = {"folds": number, "validation": fold or "all, each out of its fold", "seed": seed}
    notes = {**corpus.notes, "folds": about}
    return dataclasses.replace(whole, splits=parts, notes=notes)


def _drawn(
    corpus: Corpus, splits: Mapping[str, Sequence[Document]], notes: Mapping[str, object]
) -> Corpus:
    """Give the corpus with other documents, and the labels that its training still has."""
    labels = corpus.labels
    if corpus.kind != "binary":
        present = set(by_frequency(splits["train"]))
        labels = tuple(label for label in labels if label in present)
    return make_corpus(
        corpus.name,
        corpus.task,
        corpus.kind,
        splits,
        labels=labels,
        notes=notes,
        label_names=corpus.label_names,
    )


def subset(corpus: Corpus, sizes: Mapping[str, int | None], seed: int) -> Corpus:
    """Draw fewer documents a split, labels in proportion; the notes say so.

    Args:
        corpus: Any corpus.
        sizes: Documents to keep a split; None or a number above what is there keeps all.
        seed: Same seed, same documents.
    """
    splits = {name: list(part) for name, part in corpus.splits.items()}
    drawn = {}
    for name, size in sizes.items():
        if size is not None and 0 < size < len(splits[name]):
            _, splits[name] = part_off(splits[name], size / len(splits[name]), seed)
            drawn[name] = len(splits[name])
    if not drawn:
        return corpus
    return _drawn(corpus, splits, {**corpus.notes, "subset": {"documents": drawn, "seed": seed}})


def without_rare(corpus: Corpus, at_least: int) -> Corpus:
    """Leave out labels with fewer training documents; documents stay, also without a label.

    Args:
        corpus: A multi-label corpus.
        at_least: Training documents a label must have.
    """
    kept = by_frequency(corpus.splits["train"], at_least)
    if not kept:
        message = f"{corpus.name}: no label has {at_least} training documents"
        raise DataError(message)
    if len(kept) == len(corpus.labels):
        return corpus
    allowed = set(kept)
    parts = {
        name: tuple(
            dataclasses.replace(d, labels=tuple(x for x in d.labels if x in allowed)) for d in part
        )
        for name, part in corpus.splits.items()
    }
    notes = {**corpus.notes, "labels_left_out_after_drawing": len(corpus.labels) - len(kept)}
    return dataclasses.replace(corpus, labels=kept, splits=parts, notes=notes)
