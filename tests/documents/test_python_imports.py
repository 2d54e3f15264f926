"""The embedded corpus: no import left, no name that gives a label away, no copy twice."""

import re

import pytest

from longdoc.documents import python_imports
from longdoc.documents.document import Document
from longdoc.documents.duplicates import distinct
from longdoc.documents.python_imports import MASK, without


@pytest.fixture(scope="module")
def corpus():
    return python_imports.load()


def test_it_is_long_multi_label_and_long_tailed(corpus):
    counts = corpus.training_counts()
    assert len(corpus.splits["train"]) > 600
    assert len(corpus.labels) > 60
    assert counts[0] > 100
    assert (counts < 20).mean() > 0.5
    assert counts.min() >= 5


def test_no_import_statement_is_left(corpus):
    left = re.compile(
        r"^\s*(import [A-Za-z_][\w.]*( as \w+)?|from [.\w]+ import \w+)\s*$", re.MULTILINE
    )
    found = [
        d.id for part in corpus.splits.values() for d in part if _outside_strings(left, d.text)
    ]
    assert len(found) <= 2, found


def _outside_strings(pattern, text):
    """Look for a match outside docstrings, where examples may keep their imports."""
    bare = re.sub(r'("""|\'\'\')(?s:.*?)\1', "", text)
    return pattern.search(bare)


def test_no_label_stands_in_any_text(corpus):
    names = set(corpus.labels)
    for part in corpus.splits.values():
        for document in part:
            found = set(re.findall(r"[A-Za-z_]\w*", document.text)) & names
            assert not found, (document.id, found)


def test_without_the_mask_the_names_are_there():
    plain = python_imports.load(mask=False)
    text = " ".join(d.text for d in plain.splits["train"])
    assert text.count(f"{MASK}.") < 50
    assert len(re.findall(r"\bos\.path", text)) > 50


def test_documents_of_one_folder_stay_in_one_split(corpus):
    places = {}
    for split, part in corpus.splits.items():
        for document in part:
            if document.group:
                places.setdefault(document.group, set()).add(split)
    assert places
    assert all(len(splits) == 1 for splits in places.values())


def test_the_tables_of_encodings_are_gone_but_for_a_few(corpus):
    found = [d.id for part in corpus.splits.values() for d in part if "/encodings/" in d.id]
    assert 0 < len(found) < 50


def test_it_is_the_same_every_time(corpus):
    assert python_imports.load().digest() == corpus.digest()


def test_the_versions_it_came_from_are_recorded(corpus):
    assert corpus.notes["python"]
    assert "rich" in corpus.notes["packages"]


@pytest.mark.parametrize(
    ("source", "left"),
    [
        ("import os\n", "\n"),
        ("import os; x = 1\n", "; x = 1\n"),
        (
            "try:\n    import a\nexcept ImportError:\n    a = None\n",
            "try:\n    \nexcept ImportError:\n    a = None\n",
        ),
        ("from a import (\n    b,\n    c,\n)\ny = 'é'\n", "\ny = 'é'\n"),
        ("s = 'ü'; import a\n", "s = 'ü'; \n"),
    ],
)
def test_statements_are_cut_out_to_the_character(source, left):
    import ast

    assert without(source, list(python_imports.imports(ast.parse(source)))) == left


def test_near_copies_go_and_the_first_stays():
    words = " ".join(f"word{i}" for i in range(200))
    documents = [Document("a", (words,), ()), Document("b", (words + " more",), ()),
                 Document("c", ("something else entirely, quite short",), ()),
                 Document("d", (words,), ())]  # fmt: skip
    assert [d.id for d in distinct(documents)] == ["a", "c"]
    assert [d.id for d in distinct(documents, 1.0)] == ["a", "b", "c"]
