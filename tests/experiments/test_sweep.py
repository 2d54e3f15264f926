"""Sweeps: a grid or a search, resumed, shared between processes, chosen on validation."""

import json
import shutil
import signal
import subprocess
import sys
import time

import pytest

import longdoc
from longdoc.documents.catalog import DataSettings
from longdoc.errors import RunError, SettingsError
from longdoc.experiments import space, study, sweep
from longdoc.report.sweeps import answer
from longdoc.settings import build
from tests.conftest import ROOT, run_command

LETTERS = str(ROOT / "examples" / "letters.jsonl")
SVM = {"data": {"dataset": LETTERS}, "baseline": {"name": "tfidf-svm"}}
COSTS = {"baseline.features": [50, 200, 1000]}


def plan(**changed):
    return space.make({"name": "svm", "seeds": [1], "settings": SVM, "space": COSTS, **changed})


def test_a_grid_tries_each_point_once_and_orders_by_validation(tmp_path):
    found = sweep.execute(plan(), tmp_path)
    assert len(found.tried) == found.planned == 3
    values = [entry.validation("macro-f1") for entry in found.tried]
    assert values == sorted(values, reverse=True)
    best = found.tried[0].system
    assert (
        best.runs[0].metrics["splits"]["validation"][found.tried[0].mode]["macro-f1"] == values[0]
    )
    (file,) = (tmp_path / "svm").glob("sweep-*.json")
    kept = json.loads(file.read_text())
    assert [entry["validation"]["macro-f1"]["mean"] for entry in kept["trials"]] == values
    before = {run: run.stat().st_mtime_ns for run in (tmp_path / "svm" / "runs").iterdir()}
    again = sweep.execute(plan(), tmp_path)
    assert [e.point for e in again.tried] == [e.point for e in found.tried]
    assert {run: run.stat().st_mtime_ns for run in (tmp_path / "svm" / "runs").iterdir()} == before


def test_a_grid_that_grows_trains_only_what_is_new(tmp_path):
    small = sweep.execute(plan(space={"baseline.features": [50]}), tmp_path)
    (run,) = (tmp_path / "svm" / "runs").iterdir()
    before = (run / "metrics.json").stat().st_mtime_ns
    grown = sweep.execute(plan(), tmp_path)
    assert (run / "metrics.json").stat().st_mtime_ns == before
    assert small.tried[0].point in [entry.point for entry in grown.tried]


def test_a_trial_that_fails_says_why_and_is_tried_again(tmp_path):
    sweep.execute(plan(), tmp_path / "all")
    (broken, *_) = sorted((tmp_path / "all" / "svm" / "runs").iterdir())
    in_the_way = tmp_path / "svm" / "runs" / broken.name
    in_the_way.mkdir(parents=True)
    first = sweep.execute(plan(), tmp_path)
    assert len(first.tried) == 2
    ((why,),) = [list(first.failures.values())]
    assert "is no complete run; move it away" in why
    in_the_way.rmdir()
    second = sweep.execute(plan(), tmp_path)
    assert len(second.tried) == 3
    assert second.failures == {}


@pytest.mark.parametrize(
    "wanted",
    [
        {"data.split_seed": [0, 1]},
        {"data.train_documents": [10, 20]},
        {"data.bytecode_names": [True, False]},
        {"data.test_share": [0.1, 0.2]},
        {"data.folds": [2, 3]},
        {"data.validation_documents": [5, 10]},
        {"set": {"one": {"data": {"dataset": "reuters-21578"}}, "other": {"tokens": {"max_tokens": 64}}}},
    ],
)  # fmt: skip
def test_trials_of_other_documents_are_not_put_in_an_order(wanted):
    with pytest.raises(SettingsError, match="trials are compared on the same documents; got 'data"):
        plan(space=wanted)
    assert plan(space={"data.text_field": ["text", "facts"], "data.leaks": ["mask", "keep"]})
    same = {"data": {"dataset": LETTERS}}
    other = {"baseline": {"features": 50}}
    spelt = {"data": {"dataset": LETTERS, "split_seed": 0, "test_share": 0.2}}
    assert plan(space={"set": {"a": spelt, "b": other}})
    assert plan(
        settings={"baseline": {"name": "tfidf-svm"}},
        space={"set": {"a": same, "b": {**same, **other}}},
    )


def test_seeds_that_came_to_the_same_say_nothing_of_luck(tmp_path):
    found = sweep.execute(plan(seeds=[1, 2]), tmp_path)
    deviation = found.tried[0].system.spread("macro-f1", found.tried[0].mode, "validation")
    said = answer(found)
    assert (deviation == 0) == said.endswith(
        "Its seeds gave the same: how much is luck they do not say."
    )
    assert deviation == 0
    assert "0.000" not in said


def test_a_sweep_in_which_everything_fails_is_an_error(tmp_path):
    with pytest.raises(RunError, match=r"not one trial succeeded: .*missing.jsonl"):
        sweep.execute(plan(settings={"data": {"dataset": "missing.jsonl"}}), tmp_path)


def test_runs_that_were_removed_are_made_again(tmp_path):
    found = sweep.execute(plan(), tmp_path)
    shutil.rmtree(found.tried[0].system.runs[0].folder)
    again = sweep.execute(plan(), tmp_path)
    assert [e.point for e in again.tried] == [e.point for e in found.tried]


@pytest.mark.parametrize("method", ["tpe", "random"])
def test_a_search_that_was_stopped_proposes_what_an_undisturbed_one_does(method, tmp_path):
    def searched(folder, trials):
        wide = {"baseline.c": {"low": 0.01, "high": 10, "log": True}, **COSTS}
        made = plan(method=method, trials=trials, space=wide)
        return sweep.execute(made, folder)

    whole = searched(tmp_path / "whole", 12)
    searched(tmp_path / "parts", 5)
    parts = searched(tmp_path / "parts", 12)
    assert [e.point for e in parts.tried] == [e.point for e in whole.tried]
    assert all(0.01 <= e.point["baseline.c"] <= 10 for e in whole.tried)
    assert len({e.point["baseline.c"] for e in whole.tried}) == 12


def test_choices_in_another_order_are_the_same_sweep(tmp_path):
    first = sweep.execute(plan(), tmp_path)
    turned = {name: values[::-1] for name, values in COSTS.items()}
    again = sweep.execute(plan(space=turned), tmp_path)
    assert [e.point for e in again.tried] == [e.point for e in first.tried]
    assert again.made == 3


def test_documents_that_changed_are_tried_again(tmp_path):
    own = tmp_path / "own.jsonl"
    shutil.copy(LETTERS, own)
    made = plan(settings={**SVM, "data": {"dataset": str(own)}})
    sweep.execute(made, tmp_path)
    lines = own.read_text().splitlines(keepends=True)
    own.write_text("".join(lines[:70]))
    again = sweep.execute(made, tmp_path)
    sizes = {run.data["documents"]["train"] for e in again.tried for run in e.system.runs}
    assert (again.made, len(sizes)) == (3, 1)
    assert sizes.pop() < 60


def test_half_a_line_in_the_journal_is_taken_away(tmp_path):
    first = sweep.execute(plan(), tmp_path)
    journal = tmp_path / "svm" / "journal.log"
    with journal.open("a") as stream:
        stream.write('{"op_code":4,"wor')
    again = sweep.execute(plan(), tmp_path)
    assert [e.point for e in again.tried] == [e.point for e in first.tried]
    for line in journal.read_text().splitlines():
        json.loads(line)


def started(root, made):
    """Choose a trial as a process does that is killed right after."""
    opened = study.Study(root, made, lambda point, runs: True)
    with opened.next() as trial:
        return trial.point


def test_a_trial_that_kills_its_process_does_not_keep_the_others_from_their_turn(tmp_path):
    made, root = plan(), tmp_path / "svm"
    points = [started(root, made)["baseline.features"] for _ in range(4)]
    assert points == ["50", "50", "50", "200"]
    (failed,) = study.Study(root, made, lambda point, runs: True).failures()
    assert study.why(failed) == "its process was ended 3 times"
    found = sweep.execute(made, tmp_path)  # a new command tries once more
    assert len(found.tried) == 3
    assert found.failures == {}


def test_points_of_a_search_that_repeat_are_one_row(tmp_path):
    wide = {"baseline.features": [50, 200], "baseline.ngrams": [1, 2]}
    found = sweep.execute(plan(method="random", trials=50, space=wide), tmp_path)
    assert found.made == found.planned == 4
    assert len({str(e.point) for e in found.tried}) == len(found.tried) <= 4


def test_several_seeds_are_one_trial(tmp_path):
    found = sweep.execute(plan(seeds=[1, 2], space={"baseline.features": [50]}), tmp_path)
    (entry,) = found.tried
    assert [run.settings.training.seed for run in entry.system.runs] == [1, 2]
    values = entry.system.values("macro-f1", entry.mode, "validation")
    assert entry.validation("macro-f1") == pytest.approx(sum(values) / 2)


MINI = """
name: mini
seeds: [1]
settings:
  data: {dataset: %s}
  tokens: {max_tokens: 32, vocabulary: 400}
  backbone: {name: bert-mini, pretrained: false}
  training: {epochs: 2, precision: float32}
space:
  training.learning_rate: [1e-3, 2e-3]
  training.batch_size: [8, 16]
"""


@pytest.fixture
def mini(tmp_path):
    file = tmp_path / "mini.yaml"
    file.write_text(MINI % LETTERS)
    return file


def command(file, folder):
    return [sys.executable, "-m", "longdoc", "sweep", str(file), "--output", str(folder)]


def results(folder):
    (file,) = (folder / "mini").glob("sweep-*.json")
    kept = json.loads(file.read_text())
    return [(entry["point"], entry["validation"]["macro-f1"]["seeds"]) for entry in kept["trials"]]


@pytest.mark.slow
def test_a_killed_sweep_goes_on_to_the_same_result(mini, tmp_path):
    sweep.execute(space.read(str(mini)), tmp_path / "whole")
    process = subprocess.Popen(
        command(mini, tmp_path / "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    runs = tmp_path / "killed" / "mini" / "runs"
    for _ in range(600):
        if runs.is_dir() and any(r.name.endswith(".partial") for r in runs.iterdir()):
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len([r for r in runs.iterdir() if not r.name.startswith(".")]) < 4
    sweep.execute(space.read(str(mini)), tmp_path / "killed")
    assert results(tmp_path / "killed") == results(tmp_path / "whole")


@pytest.mark.slow
def test_two_commands_share_a_sweep(mini, tmp_path):
    both = [
        subprocess.Popen(
            command(mini, tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for process in both:
        _, error = process.communicate(timeout=240)
        assert process.returncode == 0, error
    assert len(results(tmp_path)) == 4
    lines = (tmp_path / "mini" / "journal.log").read_text().splitlines()
    completed = [line for line in map(json.loads, lines) if line.get("values")]
    assert len(completed) == 4  # each point by one of the two


@pytest.mark.slow
def test_processes_come_to_what_one_does(mini, tmp_path):
    made = space.read(str(mini))
    one = sweep.execute(made, tmp_path / "one")
    two = sweep.execute(made, tmp_path / "two", processes=2)
    assert {str(e.point) for e in two.tried} == {str(e.point) for e in one.tried}
    assert len(two.tried) == 4


@pytest.mark.parametrize("name", space.ready())
def test_every_ready_sweep_can_run_on_own_documents(name):
    made = space.read(name, {"data": {"dataset": LETTERS}})
    settings = [made.settings(point) for point in made.points()]
    assert len(settings) == made.trials() > 4
    assert len({record.digest() for record in settings}) == len(settings)
    assert {record.data for record in settings} == {build(DataSettings, {"dataset": LETTERS})}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "space must be at least one setting with values"),
        ({"spaces": {}}, "a sweep has no 'spaces'; did you mean space"),
        (
            {"space": {"adapter.rnk": [1]}},
            "no setting named 'adapter.rnk'; did you mean adapter.rank",
        ),
        ({"space": {"adapter.rank": []}}, "space.adapter.rank must be a list or a range"),
        ({"space": {"adapter.rank": [4, 4]}}, "a list of different values"),
        ({"space": {"adapter.rank": ["x"]}}, "adapter.rank must be a whole number; got 'x'"),
        (
            {"space": {"adapter.rank": [0]}},
            "space.adapter.rank, 0: adapter.rank must be at least 1",
        ),
        ({"space": {"training.seed": [1]}}, "without training.seed; name seeds"),
        ({"space": {"a": {"b": {"training": {"seed": 1}}}}}, "without training.seed; name seeds"),
        ({"space": {"a": {"b": {"trainin": {}}}}}, "space.a, b: no setting named 'trainin'"),
        ({"space": {"a": [1]}}, "space.a must be names with values"),
        ({"space": {"a": {"b": {"training": 5}}}}, "training is a group of settings, not 5"),
        ({"space": {"a": {True: {}, False: {}}}}, "put this one in quotes"),
        ({"space": {"a": {1: {}, "1": {}}}}, "choices of different names"),
        (
            {"space": {"adapter.rank": [4], "a": {"b": {"adapter": {"rank": 8}}}}},
            "space: adapter.rank must be set by one axis",
        ),
        (
            {"space": {"training.batch_size": [4], "training.batch-size": [8]}},
            "space: training.batch_size must be set by one axis",
        ),
        (
            {"space": {"adapter.rank": [*range(1, 102)], "training.epochs": [*range(1, 102)]}},
            "at most 10000 combinations; got 10201",
        ),
        (
            {"method": "tpe", "space": {"adapter.alpha": {"low": 1, "high": float("inf")}}},
            "must be a number that is finite; got inf",
        ),
        ({"sampler_seed": 2**32, "space": {"adapter.rank": [4]}}, "sampler_seed must be in"),
        ({"space": {"adapter.rank": {"low": 1, "high": 8}}}, "a grid needs a list of values"),
        (
            {"method": "tpe", "space": {"adapter.rank": {"low": 8, "high": 1}}},
            "from low to a greater high",
        ),
        (
            {"method": "tpe", "space": {"adapter.dropout": {"low": 0, "high": 0.5, "log": True}}},
            "above 0 where log is true",
        ),
        ({"method": "tpe", "space": {"adapter.preset": {"low": 0, "high": 1}}}, "it is no number"),
        ({"method": "hope", "space": {"adapter.rank": [4]}}, "method cannot be 'hope'"),
        ({"trials": 0, "space": {"adapter.rank": [4]}}, "trials must be at least 1"),
        ({"seeds": [], "space": {"adapter.rank": [4]}}, "seeds must be at least one number"),
        ({"name": "../up", "space": {"adapter.rank": [4]}}, "name must be a plain folder name"),
    ],
)
def test_what_is_wrong_with_a_sweep_is_said(content, message):
    with pytest.raises(SettingsError) as caught:
        space.make(content)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"training": {"seed": 7}}, "training.seed must be left out; a sweep has seeds"),
        ({"adapter": {"rank": 7}}, "adapter.rank must be left to the sweep"),
    ],
)
def test_an_option_without_effect_is_refused(options, message):
    with pytest.raises(SettingsError, match=message):
        space.read("lora-rank", options)


def test_what_was_given_is_cut_where_it_is_long():
    bomb = ["x"] * 9
    for _ in range(12):
        bomb = [bomb] * 9
    with pytest.raises(SettingsError) as caught:
        space.make({"space": {"a": bomb}})
    assert len(str(caught.value)) < 60_000


def test_a_sweep_that_is_not_there_names_those_that_are():
    with pytest.raises(SettingsError, match="did you mean lora-rank"):
        space.read("lora-rnk")


@pytest.mark.slow
def test_the_command_shows_a_table_and_markdown(tmp_path):
    file = tmp_path / "svm.yaml"
    file.write_text(json.dumps({"name": "svm", "seeds": [1], "settings": SVM, "space": COSTS}))
    shown = run_command("sweep", str(file), "--output", str(tmp_path), COLUMNS="200")
    assert "Best on validation: features" in shown.stdout
    page = run_command("sweep", str(file), "--output", str(tmp_path), "--markdown").stdout
    assert page.count("\n| ") == 4
    assert "3 of 3 trials (grid)" in page


def test_from_python(tmp_path):
    found = longdoc.sweep({"name": "svm", "seeds": [1], "settings": SVM, "space": COSTS}, tmp_path)
    assert len(found.tried) == 3
