"""Pages of results: every number from a metrics file, frequent and rare labels apart."""

import re

import pytest

from longdoc.experiments import compare, run, store
from longdoc.experiments.plan import PlanSettings
from longdoc.experiments.settings import Settings
from longdoc.report import markdown
from longdoc.settings import build

LETTERS = {"data": {"dataset": "examples/letters.jsonl"}, "thresholds": {"head": 20, "tail": 12}}


def svm(root, name, seed, **changes):
    baseline = {"name": "tfidf-svm", **changes}
    values = {**LETTERS, "baseline": baseline, "training": {"seed": seed}}
    return store.load(run.execute(build(Settings, values), root, name=name))


def compared(root, names):
    runs = [
        svm(root, name, seed, c=1.0 + number)
        for number, name in enumerate(names)
        for seed in (0, 1)
    ]
    return compare.from_runs(runs, PlanSettings(resamples=100), command="longdoc x")


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    return compared(tmp_path_factory.mktemp("markdown"), ["one", "two | three"])


def test_labels_stand_by_frequency_at_every_kind_of_threshold(comparison):
    text = markdown.render(comparison)
    assert (
        "Labels: head 1, medium 2, tail 2 (head: 20 training documents or more; tail: 12 or fewer)"
        in text
    )
    for mode, title in markdown.MODES:
        table = text.split(f"**{title}**")[1].split("\n\n")[1]
        rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
        assert len(rows) == 2
        for system, row in zip(comparison.systems, rows, strict=True):
            cells = re.split(r" (?<!\\)\| ", row.strip("| "))
            wanted = [
                " / ".join(f"{system.mean(prefix + m, mode):.3f}" for m in ("micro-f1", "macro-f1"))
                for prefix in ("", "head-", "medium-", "tail-")
            ]
            assert cells[1:] == wanted


def test_of_many_systems_only_the_pairs_with_the_best_are_spelt_out(tmp_path):
    found = compared(tmp_path, [f"svm {number}" for number in range(9)])
    lines = [line for line in markdown.render(found).splitlines() if line.startswith("- svm")]
    assert len(lines) == 8
    assert all(found.best().name in line for line in lines)


def test_groups_are_counted_in_each_systems_own_training_documents(tmp_path):
    """In folds validation is learnt too, so that the same label may be in another group."""
    folds = build(
        Settings,
        {
            **LETTERS, "data": {**LETTERS["data"], "folds": 3},
            "thresholds": {"head": 20, "tail": 12}, "baseline": {"name": "tfidf-svm"},
            "imbalance": {},
        },
    )  # fmt: skip
    plain = build(
        Settings,
        {**LETTERS, "thresholds": {"head": 20, "tail": 12}, "baseline": {"name": "majority"}},
    )
    runs = [
        store.load(run.execute(settings, tmp_path, name=name))
        for settings, name in ((folds, "in folds"), (plain, "whole"))
    ]
    counts = [made.data["training_counts"] for made in runs]
    assert counts[0] != counts[1]
    found = compare.from_runs(runs, PlanSettings(resamples=100), command="longdoc x")
    text = markdown.render(found)
    for name, count in zip(("in folds", "whole"), counts, strict=True):
        head = sum(one >= 20 for one in count)
        tail = sum(one <= 12 for one in count)
        sizes = f"of {name} head {head}, medium {len(count) - head - tail}, tail {tail}"
        assert sizes in text
    assert "tail |" in text.split("**0.5**")[1]
