"""Comparisons of runs: what is the same for all, what differs, and how sure that is."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from longdoc import predictions
from longdoc.errors import LongdocError, RunError, SettingsError
from longdoc.experiments import compare, plan, run, store
from longdoc.metrics import significance
from longdoc.report.sections import significance as significance_section
from tests.conftest import made_corpus
from tests.experiments.test_runs import TINY, settings

PLAN = {
    "name": "small", "seeds": [0, 1], "resamples": 200, "baselines": False, "settings": TINY,
    "systems": [
        {"name": "svm", "baseline": {"name": "tfidf-svm"}},
        {"name": "majority", "baseline": {"name": "majority"}},
        {"name": "missing", "backbone": {"name": "no-such-backbone"}},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    root = tmp_path_factory.mktemp("compare")
    return compare.execute(plan.make(PLAN), root), root


def test_a_comparison_orders_systems_and_names_what_did_not_run(comparison):
    found, _ = comparison
    assert [system.name for system in found.systems] == ["svm", "majority"]
    assert set(found.failures) == {"missing (seed 0)", "missing (seed 1)"}
    assert "is no catalogue name" in found.failures["missing (seed 0)"]
    assert [len(system.runs) for system in found.systems] == [2, 2]


def test_every_pair_is_tested_for_both_metrics_and_said_in_words(comparison):
    found, _ = comparison
    assert {(p.first, p.second, p.metric) for p in found.pairs} == {
        ("svm", "majority", "micro-f1"), ("svm", "majority", "macro-f1"),
    }  # fmt: skip
    sentence = found.pair("majority", "svm", "macro-f1").sentence()
    assert sentence.startswith("svm is better than majority in macro-f1 by")


def test_equal_systems_are_not_significantly_different(comparison, tmp_path):
    found, _ = comparison
    copies = [store.load(r.folder) for r in found.systems[0].runs]
    other = [store.Run(**{**vars(r), "system": "twin"}) for r in copies]
    both = compare.from_runs([*copies, *other])
    pair = both.pair("svm", "twin", "macro-f1")
    assert not pair.significant
    assert "are not significantly different" in pair.sentence()


@pytest.mark.parametrize("seeds", [(2, 2), (2, 1), (1, 2)])
def test_swapping_nothing_leaves_the_difference_of_the_means(comparison, seeds, monkeypatch):
    svm, majority = (system.runs for system in comparison[0].systems)
    monkeypatch.setattr(significance, "swaps", lambda n, r, *_: np.zeros((r, n), np.float32))
    given = []
    plain = significance.compare

    def watched(observed, first, second, swapped):
        given.append((observed, swapped))
        return plain(observed, first, second, swapped)

    monkeypatch.setattr(significance, "compare", watched)
    found = compare.from_runs([*svm[: seeds[0]], *majority[: seeds[1]]])
    assert len(given) == 2
    for observed, swapped in given:
        assert observed != 0
        assert swapped == pytest.approx(np.full(len(swapped), observed))
    # What is left when nothing is swapped is all of it, so nothing is beyond chance.
    assert all(pair.difference.p == 1.0 for pair in found.pairs)


def test_the_order_in_which_runs_are_given_changes_nothing(comparison, monkeypatch):
    plain = store.Run.predictions

    def unlike(self):
        # A system that is made without chance says the same with every seed.
        found = plain(self)
        noise = np.random.default_rng(self.settings.training.seed).random(
            found["test"].scores.shape
        )
        changed = dataclasses.replace(found["test"], scores=noise.astype(np.float32))
        return {**found, "test": changed}

    monkeypatch.setattr(store.Run, "predictions", unlike)
    svm, majority = (system.runs for system in comparison[0].systems)
    there, back = (
        compare.from_runs([*runs, *majority]).pairs for runs in (svm, tuple(reversed(svm)))
    )
    assert [pair.difference for pair in there] == [pair.difference for pair in back]


def test_an_interrupted_comparison_goes_on_where_it_was(comparison):
    found, root = comparison
    before = {
        r.folder: (r.folder / "metrics.json").stat().st_mtime_ns
        for s in found.systems
        for r in s.runs
    }
    gone = found.systems[0].runs[0].folder
    shutil.rmtree(gone)
    again = compare.execute(plan.make(PLAN), root)
    assert compare.as_values(again) == compare.as_values(found)
    for folder, time in before.items():
        assert ((folder / "metrics.json").stat().st_mtime_ns == time) == (folder != gone)


def test_runs_of_several_machines_are_compared_where_they_are_brought_together(
    comparison, tmp_path, monkeypatch
):
    found, root = comparison
    svm, _ = found.systems
    assert all((each.folder / "model").is_dir() for each in svm.runs)
    for each in (each for system in found.systems for each in system.runs):
        # A model is not needed to compare, and is most of what would have to be carried.
        place = tmp_path / each.folder.relative_to(root)
        shutil.copytree(each.folder, place, ignore=shutil.ignore_patterns("model"))

    def refused(*_given, **_named):
        pytest.fail("a run that was brought along was made again")

    monkeypatch.setattr(run, "_baseline", refused)
    again = compare.execute(plan.make(PLAN), tmp_path)
    assert compare.as_values(again) == compare.as_values(found)
    assert [len(system.runs) for system in again.systems] == [2, 2]


def test_the_comparison_is_kept_as_json(comparison):
    found, root = comparison
    kept = json.loads((root / "small" / "comparison.json").read_text())
    assert kept["systems"][0]["test"]["fixed"]["micro-f1"]["mean"] == found.systems[0].mean(
        "micro-f1", "fixed"
    )
    assert kept["not_run"] == found.failures


def test_runs_on_other_documents_are_not_compared(comparison, tmp_path):
    found, _ = comparison
    other = run.execute(settings(baseline={"name": "majority"}), tmp_path, corpus=made_corpus())
    with pytest.raises(RunError, match="were made on different documents"):
        compare.from_runs([found.systems[0].runs[0], store.load(other)])


def test_a_plan_of_which_nothing_runs_says_why(tmp_path):
    broken = {**PLAN, "systems": [{"name": "x", "data": {"dataset": "no-such-data"}}]}
    with pytest.raises(
        LongdocError, match="not one run succeeded: there is no file or folder no-such-data"
    ):
        compare.execute(plan.make(broken), tmp_path)


def test_intervals_hold_the_mean(comparison):
    found, _ = comparison
    for system in found.systems:
        low, high = system.intervals["micro-f1"]
        assert low <= system.mean("micro-f1", found.mode) <= high


@pytest.mark.parametrize("border", ["head", "tail"])
def test_systems_with_other_borders_of_rare_labels_are_not_put_together(comparison, border):
    found, _ = comparison
    first, *_ = found.systems[0].runs
    borders = dataclasses.replace(first.settings.thresholds, **{border: 20})
    other = dataclasses.replace(
        found.systems[1].runs[0],
        settings=dataclasses.replace(found.systems[1].runs[0].settings, thresholds=borders),
    )
    with pytest.raises(RunError, match=f"have different thresholds.{border}"):
        compare.from_runs([first, other])
    systems = [{"name": "a"}, {"name": "b", "thresholds": {border: 20}}]
    with pytest.raises(SettingsError, match=f"thresholds.{border} must be the same for all"):
        plan.make({**PLAN, "systems": systems})


DAMAGE = {
    "data.json": ["{}", "[]", "null"],
    "metrics.json": ["{}", "[]", "null", '{"thresholds": {}, "splits": {}, "labels": []}'],
    "environment.json": ["{}", "null"],
    "timings.json": ["null", "3"],
    "settings.json": ['{"system": "a", "settings": []}', '{"system": 5, "settings": {}}', "null"],
}


@pytest.mark.parametrize(("name", "text"), [(n, t) for n, texts in DAMAGE.items() for t in texts])
def test_a_damaged_run_says_so_in_one_sentence(comparison, tmp_path, name, text):
    found, _ = comparison
    copy = tmp_path / "copy"
    shutil.copytree(found.systems[0].runs[0].folder, copy)
    (copy / name).write_text(text)
    with pytest.raises(RunError, match="copy is damaged: "):
        store.load(copy)


def test_a_run_whose_files_disagree_says_so(comparison, tmp_path):
    found, _ = comparison
    good, other = found.systems[0].runs[0], found.systems[1].runs[0]
    for number, change in enumerate(("labels", "thresholds", "splits")):
        copy = tmp_path / f"copy{number}"
        shutil.copytree(good.folder, copy)
        metrics = json.loads((copy / "metrics.json").read_text())
        if change == "labels":
            metrics["labels"][0]["label"] += "?"
        elif change == "thresholds":
            metrics["thresholds"]["per-label"].pop()
        else:
            del metrics["splits"]["test"]["global"]
        (copy / "metrics.json").write_text(json.dumps(metrics))
        with pytest.raises(RunError, match="is damaged: "):
            store.load(copy)
    copy = tmp_path / "copy"
    shutil.copytree(good.folder, copy)
    (copy / "history.jsonl").write_text("{]")
    with pytest.raises(RunError, match=r"is damaged: history\.jsonl"):
        store.load(copy).history()
    (copy / "settings.json").unlink()
    (copy / "settings.json").mkdir()
    with pytest.raises(RunError, match="is damaged: "):
        store.load(copy)
    for rows, message in (("validation", "lack the test"), ("fewer", "are of other documents")):
        copy = tmp_path / rows
        shutil.copytree(good.folder, copy)
        parts = predictions.load(copy / "predictions.parquet")
        test = parts["test"]
        fewer = dataclasses.replace(
            test, ids=test.ids[1:], truth=test.truth[1:], scores=test.scores[1:],
            tokens=test.tokens[1:], seen=test.seen[1:],
        )  # fmt: skip
        kept = [parts["validation"]] if rows == "validation" else [parts["validation"], fewer]
        predictions.save(kept, copy / "predictions.parquet")
        with pytest.raises(RunError, match=f"is damaged: its predictions {message}"):
            compare.from_runs([other, store.load(copy)])


@pytest.mark.parametrize("name", ["a" * 300, "a\0b", "a\nb", "\u00e4" * 61])
def test_a_plan_has_a_name_that_a_folder_can_have(name):
    with pytest.raises(SettingsError, match="name must be a plain folder name of at most 120"):
        plan.make({**PLAN, "name": name})


def test_systems_that_would_share_their_folders_are_refused():
    systems = [{"name": "a b"}, {"name": "a-b"}]
    with pytest.raises(SettingsError, match="systems must be of names that tell folders apart"):
        plan.make({**PLAN, "systems": systems})
    plan.make({**PLAN, "systems": [systems[0], {**systems[1], "training": {"epochs": 2}}]})


def test_a_seed_that_scikit_learn_cannot_draw_by_is_refused():
    with pytest.raises(SettingsError, match=r"seeds must be below 2\*\*32"):
        plan.make({**PLAN, "seeds": [2**32]})


def test_labels_may_stand_in_another_order_where_others_were_learnt_from(comparison, tmp_path):
    found, _ = comparison
    first, other = found.systems[0].runs[0], found.systems[1].runs[0]
    wanted = compare.from_runs([first, other], found.about)
    copy = tmp_path / "copy"
    shutil.copytree(other.folder, copy)
    turned = store.load(copy)
    order = np.roll(np.arange(len(turned.data["labels"])), 1)
    labels = [turned.data["labels"][column] for column in order]
    cuts = {
        mode: np.array(cut)[order].tolist() for mode, cut in other.metrics["thresholds"].items()
    }
    for name, change in (("data", {"labels": labels}), ("metrics", {"thresholds": cuts})):
        file = copy / f"{name}.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    parts = [
        dataclasses.replace(
            part, labels=tuple(labels), truth=part.truth[:, order], scores=part.scores[:, order]
        )
        for part in predictions.load(copy / "predictions.parquet").values()
    ]
    predictions.save(parts, copy / "predictions.parquet")
    again = compare.from_runs([first, store.load(copy)], found.about)
    assert again.pairs == wanted.pairs
    for system, before in zip(again.systems, wanted.systems, strict=True):
        assert system.intervals == before.intervals


@pytest.mark.parametrize(
    "shared",
    [
        {"baseline": {"name": "tfidf-svm"}},
        {"ensemble": {"members": ["a", "b"]}},
        {"backbone": {"name": "bert-mini"}, "tokens": {"max_tokens": 512}},
    ],
)
def test_baselines_of_a_plan_are_what_their_names_say(shared):
    own = {"name": "c10", "baseline": {"name": "tfidf-svm", "c": 10}}
    made = plan.make(
        {**PLAN, "baselines": True, "seeds": [0], "settings": shared, "systems": [own]}
    )
    found = {planned.system: planned.settings for planned in made.runs}
    assert set(found) == {"majority", "tfidf-svm", "c10", "bert-mini-first-512"}
    assert found["majority"].baseline.name == "majority"
    bert = found["bert-mini-first-512"]
    assert (bert.baseline.name, bert.backbone.name) == ("none", "bert-mini")
    for name in ("majority", "tfidf-svm", "bert-mini-first-512"):
        assert found[name].ensemble.members == ()


@pytest.mark.parametrize(
    ("own", "added"),
    [
        ({}, False),
        ({"adapter": {"preset": "head-only"}}, True),
        ({"training": {"epochs": 9}}, False),
    ],
)
def test_bert_is_added_unless_a_system_is_that_very_bert(own, added):
    system = {"name": "b", "backbone": {"name": "bert-mini"}, "tokens": {"max_tokens": 512}, **own}
    made = plan.make({**PLAN, "baselines": True, "seeds": [0], "systems": [system]})
    assert ("bert-mini-first-512" in {planned.system for planned in made.runs}) == added


def test_a_comparison_draws_the_documents_of_a_group_together(comparison, tmp_path):
    made = made_corpus()
    splits = {
        split: [
            dataclasses.replace(document, group=f"{split} {place // 4}")
            for place, document in enumerate(documents)
        ]
        for split, documents in made.splits.items()
    }
    made = dataclasses.replace(made, splits=splits)
    folders = [
        run.execute(settings(baseline={"name": name}), tmp_path, corpus=made)
        for name in ("tfidf-svm", "majority")
    ]
    runs = [store.load(folder) for folder in folders]
    about = plan.make(PLAN).about
    found = compare.from_runs(runs, about)
    assert found.groups == 3
    assert compare.as_values(found)["groups"] == 3
    # Three groups have eight ways to swap, of which two leave a difference as large.
    assert all(pair.difference.p > 0.1 for pair in found.pairs)
    said = str(significance_section.render(found))
    assert "are of 3 groups; a group&#39;s documents are drawn, and swapped, together" in said
    assert "So few groups say next to nothing" in said
    # One run that does not know its groups, as those of earlier versions, does not hide them.
    old = dataclasses.replace(
        predictions.load(folders[0] / "predictions.parquet")["test"], groups=None
    )
    validation = predictions.load(folders[0] / "predictions.parquet")["validation"]
    predictions.save([validation, old], folders[0] / "predictions.parquet")
    again = compare.from_runs([store.load(folder) for folder in folders], about)
    assert again.groups == 3
    alone, _ = comparison
    assert alone.groups is None
    said = str(significance_section.render(alone))
    assert "groups" not in said
    assert "Where a system has 2 seeds, luck of seeds is only guessed at" in said
