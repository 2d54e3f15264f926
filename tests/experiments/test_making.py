"""Runs of a plan made by several processes at once."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
import yaml

from longdoc.errors import RunError, SettingsError
from longdoc.experiments import compare, making, plan, together
from longdoc.locks import locked
from longdoc.progress import silent
from tests.conftest import write_jsonl

PLAN = {
    "name": "shared", "seeds": [0, 1], "resamples": 200, "baselines": False,
    "settings": {"data": {"dataset": "examples/letters.jsonl"}},
    "systems": [
        {"name": "svm", "baseline": {"name": "tfidf-svm"}},
        {"name": "majority", "baseline": {"name": "majority"}},
        {"name": "missing", "backbone": {"name": "no-such-backbone"}},
    ],
}  # fmt: skip


def finished(output):
    runs = output / "shared" / "runs"
    return [folder for folder in runs.iterdir() if not folder.name.startswith(".")]


def test_a_run_that_another_process_is_at_work_on_is_waited_for(tmp_path):
    made, told = plan.make(PLAN), []
    waits = threading.Event()

    def tell(share, message):
        told.append(message)
        if "another process is at work on it" in message:
            waits.set()

    locks = tmp_path / "shared" / making.LOCKS
    locks.mkdir(parents=True)
    found = []
    worker = threading.Thread(target=lambda: found.append(compare.execute(made, tmp_path, tell)))
    name = hashlib.sha256(b"svm").hexdigest()[:8]
    lock = locks / f"{made.runs[0].settings.digest()}-{name}"
    with locked(lock, wait=False) as mine:
        assert mine
        worker.start()
        assert waits.wait(timeout=60)
        assert len(finished(tmp_path)) == 3  # all others that can be made
    worker.join(timeout=60)
    assert [len(system.runs) for system in found[0].systems] == [2, 2]
    seeds = [run.settings.training.seed for run in found[0].systems[0].runs]
    assert seeds == [0, 1]  # in the plan's order, whichever came first


def test_what_failed_is_not_tried_again_by_processes_of_the_same_command_only(tmp_path):
    made, root = plan.make(PLAN), tmp_path / "shared"
    locks = root / making.LOCKS
    locks.mkdir(parents=True)
    making.work(made, root, "ours", threads=torch.get_num_threads())
    notes = sorted(locks.glob(f"*.ours.{making.FAILED}"))
    assert len(notes) == 2
    for note in notes:
        note.write_text("the machine was full", encoding="utf-8")
    making.work(made, root, "ours", threads=torch.get_num_threads())
    assert {note.read_text(encoding="utf-8") for note in notes} == {"the machine was full"}
    others = compare.execute(made, tmp_path)
    assert all("is no catalogue name" in reason for reason in others.failures.values())
    assert len(list(locks.glob(f"*.{making.FAILED}"))) == 2  # theirs are gone, ours stay


def test_systems_of_the_same_settings_do_not_share_their_fate(tmp_path):
    twins = [{"name": name, "baseline": {"name": "majority"}} for name in ("one", "other")]
    made = plan.make({**PLAN, "seeds": [0], "systems": twins})
    compare.execute(made, tmp_path)
    whole = next(folder for folder in finished(tmp_path) if folder.name.startswith("one"))
    (whole / "metrics.json").unlink()
    found = compare.execute(made, tmp_path)
    assert [system.name for system in found.systems] == ["other"]
    assert list(found.failures) == ["one (seed 0)"]


def test_an_ensemble_waits_for_its_members(tmp_path, monkeypatch):
    members = {"ensemble": {"members": ["a-run"]}}
    systems = [{"name": "both", **members}, {"name": "svm", "baseline": {"name": "tfidf-svm"}}]
    made = plan.make({**PLAN, "seeds": [0], "systems": systems})
    order = []
    monkeypatch.setattr(
        "longdoc.experiments.runner.Runner.make",
        lambda self, planned, progress: order.append(planned.system),
    )
    making.make_all(made, tmp_path, silent)
    assert order == ["svm", "both"]


@pytest.mark.slow
def test_a_process_that_ends_early_is_counted():
    # Called with the number of threads, which becomes the exit code.
    said = together.run(os._exit, (), 2, lambda: (0.0, ""), silent)
    assert said.startswith("2 of 2 processes ended early (exit code ")


def children(number):
    return Path(f"/proc/{number}/task/{number}/children").read_text().split()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="asks /proc who is at work")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_processes_end_with_a_command_that_is_ended(tmp_path, number):
    systems = [{"name": "long", "backbone": {"name": "bert-mini"}, "training": {"epochs": 1000}}]
    file = tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump({**PLAN, "systems": systems}))
    command = [sys.executable, "-m", "longdoc", "compare", str(file), "--processes", "2"]
    parent = subprocess.Popen(
        [*command, "--output", str(tmp_path / "out")], stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 60
    at_work = []
    # Two, and multiprocessing's own; one that still begins would end with its command by itself.
    while time.monotonic() < until and not (
        len(at_work) >= 3 and any((tmp_path / "out").rglob("*.partial"))
    ):
        time.sleep(0.1)
        at_work = children(parent.pid)
    parent.send_signal(number)
    _, said = parent.communicate(timeout=60)
    if number == signal.SIGTERM:
        assert parent.returncode == 128 + signal.SIGTERM
        assert "terminated; the same command goes on where it was" in said
    assert len(at_work) >= 3
    assert any((tmp_path / "out").rglob("*.partial"))
    while time.monotonic() < until + 60 and any(Path(f"/proc/{n}").exists() for n in at_work):
        time.sleep(0.1)  # multiprocessing's own ends by itself
    assert not [n for n in at_work if Path(f"/proc/{n}").exists()]


def test_processes_that_are_killed_are_told(tmp_path, monkeypatch):
    # Stands for processes that are killed, as in the test above, while they make a run.
    monkeypatch.setattr(making.together, "run", lambda *_: "2 of 2 processes ended early")
    with pytest.raises(RunError, match="2 of 2 processes ended early"):
        compare.execute(plan.make(PLAN), tmp_path, processes=2)


def test_no_process_at_all_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="processes must be at least 1; got 0"):
        compare.execute(plan.make(PLAN), tmp_path, processes=0)
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_processes_come_to_what_one_does(tmp_path):
    file = tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump(PLAN))
    made, told = plan.read(file), []
    one = compare.execute(made, tmp_path / "one")
    two = compare.execute(
        made, tmp_path / "two", lambda share, message: told.append(message), processes=2
    )
    assert compare.as_values(two) == compare.as_values(one)
    assert any(message.endswith("of 6 runs") for message in told)


@pytest.mark.slow
def test_two_commands_share_a_plan(tmp_path):
    file = tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump(PLAN))
    command = [sys.executable, "-m", "longdoc", "compare", str(file), "--output", str(tmp_path)]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in both:
        out, error = process.communicate(timeout=240)
        assert process.returncode == 1, error  # one of the systems cannot be run
        assert "report: " in out
    assert len(finished(tmp_path)) == 4


def with_a_label_of_validation_alone(folder):
    rows = [
        {"text": f"topic-{label}{label} number {n}", "labels": [label], "split": split}
        for split, labels in (("train", "ab"), ("validation", "abc"), ("test", "ab"))
        for label in labels
        for n in range(6)
    ]
    return write_jsonl(folder / "own.jsonl", rows)


@pytest.mark.parametrize("processes", [1, 2])
def test_systems_that_would_be_asked_otherwise_are_refused_before_any_is_trained(
    tmp_path, processes
):
    """In folds validation is learnt too, and with it a label that training lacks."""
    file = with_a_label_of_validation_alone(tmp_path)
    content = {
        "name": "asked", "seeds": [0], "baselines": False,
        "settings": {"data": {"dataset": str(file)}, "baseline": {"name": "tfidf-svm"}},
        "systems": [{"name": "plain"}, {"name": "folds", "data": {"folds": 2}}],
    }  # fmt: skip
    with pytest.raises(RunError, match="'c' is no label but of folds") as caught:
        making.make_all(plan.make(content), tmp_path / "out", silent, processes)
    assert str(caught.value).startswith("plain and folds would be tested on different")
    assert not list((tmp_path / "out").glob("runs/*/metrics.json"))


def test_a_system_that_cannot_run_does_not_keep_the_others_from_it(tmp_path):
    file = with_a_label_of_validation_alone(tmp_path)
    content = {
        "name": "asked", "seeds": [0], "baselines": False,
        "settings": {"data": {"dataset": str(file)}},
        "systems": [
            {"name": "plain", "baseline": {"name": "tfidf-svm"}},
            {"name": "unknown", "data": {"dataset": "nowhere.jsonl", "folds": 2}},
            {"name": "long", "data": {"dataset": "a" * 300 + ".jsonl"}},
        ],
    }  # fmt: skip
    runs, failures = making.make_all(plan.make(content), tmp_path / "out", silent)
    assert [made.system for made in runs] == ["plain"]
    assert {name.split(" ")[0] for name in failures} == {"unknown", "long"}
