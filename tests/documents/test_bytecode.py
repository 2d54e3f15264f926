"""Functions and their disassembly: in pairs, without repetition, apart by module."""

import ast
import dis
import fnmatch
import heapq
import json
import shlex
import sys
import textwrap

import pytest

from longdoc.documents import bytecode, catalog
from longdoc.documents.catalog import DataSettings


@pytest.fixture(scope="module")
def splits():
    return bytecode.pairs()


def test_there_are_thousands_and_no_module_is_in_two_splits(splits):
    assert sum(map(len, splits.values())) > 5000
    modules = [{pair.module for pair in part} for part in splits.values()]
    assert not modules[0] & modules[1]
    assert not modules[0] & modules[2]
    assert not modules[1] & modules[2]


def test_no_function_and_no_disassembly_stands_twice(splits):
    everything = [pair for part in splits.values() for pair in part]
    for form in ("source", "low_level", "id"):
        values = [getattr(pair, form) for pair in everything]
        assert len(set(values)) == len(values)


def test_sources_are_functions_and_disassemblies_have_no_names(splits):
    pairs = splits["test"][:300]
    for pair in pairs:
        (node,) = ast.parse(pair.source).body
        assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        operands = {line.split(" ", 1)[-1] for line in pair.low_level.split("\n") if " " in line}
        assert node.name not in operands
        assert not any('"' in operand or "'" in operand for operand in operands)


@pytest.mark.parametrize(
    "function",
    [textwrap.dedent, json.dumps, shlex.quote, fnmatch.filter, heapq.merge],
)
def test_a_disassembly_is_that_of_the_function_as_python_runs_it(splits, function):
    place = f"{function.__module__.replace('.', '/')}"
    found = [
        pair
        for part in splits.values()
        for pair in part
        if pair.id.startswith(place) and f":{function.__name__}:" in pair.id
    ]
    assert len(found) == 1
    names = [i.opname for i in dis.get_instructions(function) if i.opname not in bytecode.SILENT]
    given = [line.split(": ")[-1].split(" ")[0] for line in found[0].low_level.split("\n")]
    assert given == names


def test_half_of_the_documents_belong_together_and_length_does_not_tell():
    corpus = catalog.load(DataSettings(dataset="bytecode"))
    for part in corpus.splits.values():
        counts = {
            label: [d.text.split("\n---\n")[1].count("\n") for d in part if d.labels == (label,)]
            for label in corpus.labels
        }
        own, other = counts.values()
        assert len(own) == len(other)
        assert sorted(own) == sorted(other)


def test_the_other_direction_has_the_same_documents_turned():
    forth, back = (
        catalog.load(DataSettings(dataset="bytecode", task=task))
        for task in ("source-then-bytecode", "bytecode-then-source")
    )
    for first, second in zip(forth.splits["test"], back.splits["test"], strict=True):
        assert first.id == second.id
        assert first.text.split("\n---\n") == second.text.split("\n---\n")[::-1]


def test_names_are_kept_when_asked_for():
    def function(alpha):
        return alpha.beta("gamma")

    bare, full = (bytecode.disassembly(function.__code__, names) for names in (False, True))
    assert "beta" not in bare
    assert "beta" in full
    assert "gamma" in full
    assert bare.count("\n") == full.count("\n")


def test_nothing_is_imported_that_was_not():
    before = set(sys.modules)
    bytecode.pairs(seed=3)
    assert not {"antigravity", "this", "turtle"} & (set(sys.modules) - before)
