"""The real command line in processes of its own."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT, run_command, write_jsonl

TINY = (
    "--data.dataset", "examples/letters.jsonl", "--tokens.max-tokens", "32", "--tokens.vocabulary", "400",
    "--training.epochs", "1", "--backbone.pretrained=false",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("cli")
    done = run_command("train", *TINY, "--output", str(root), LONGDOC_CACHE=str(root / "cache"))
    assert done.returncode == 0, done.stderr
    return re.search(r"run folder: (\S+)", done.stdout)[1]


def test_help_shows_every_verb_with_an_example():
    done = run_command("--help")
    shown = " ".join(re.sub("[│╭╮╰╯─]", " ", done.stdout).split())
    for verb in (
        "datasets",
        "train",
        "predict",
        "evaluate",
        "compare",
        "sweep",
        "pretrain",
        "report",
        "explain",
        "doctor",
    ):
        assert f"longdoc {verb}" in shown, verb


def test_train_shows_settings_with_their_sources_in_its_help():
    done = run_command("train", "--help", COLUMNS="200")
    assert "--adapter.rank" in done.stdout
    assert "Wang et al. 2024" in done.stdout


def test_predict_gives_a_line_a_document(trained, tmp_path):
    (tmp_path / "new.jsonl").write_text(
        '{"id": "q", "text": "The lift is broken"}\n{"text": "b"}\n'
    )
    (tmp_path / "plain.txt").write_text("I want my money back")
    done = run_command("predict", trained, str(tmp_path / "new.jsonl"), str(tmp_path / "plain.txt"))
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["id"] for row in rows][::2] == ["q", "plain.txt"]
    for row in rows:
        for entry in row["labels"]:
            assert set(entry) == {"label", "score", "decision"}
            assert isinstance(entry["decision"], bool)
            assert 0 <= entry["score"] <= 1


def test_evaluate_computes_anew_what_the_run_recorded(trained):
    done = run_command("evaluate", trained, "--format", "json", "--labels")
    found = json.loads(done.stdout)
    kept = json.loads(Path(trained, "metrics.json").read_text(encoding="utf-8"))
    assert found["metrics"] == kept["splits"]["test"]
    assert found["labels"] == kept["labels"]


def test_evaluate_shows_what_it_computed_not_what_the_run_says(trained, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    metrics = json.loads((copy / "metrics.json").read_text())
    metrics["splits"]["test"]["global"]["micro-f1"] = 0.12345
    (copy / "metrics.json").write_text(json.dumps(metrics))
    done = run_command("evaluate", str(copy))
    assert "micro-f1" in done.stdout
    assert "0.1235" not in done.stdout
    assert "0.1234" not in done.stdout


def test_predict_tells_files_of_one_name_apart(trained, tmp_path):
    files = [tmp_path / name for name in ("a/x.txt", "b/x.txt", "b/y.txt")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.write_text("The lift is broken")
    done = run_command("predict", trained, *map(str, files))
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["id"] for row in rows] == [str(files[0]), str(files[1]), "y.txt"]


@pytest.mark.parametrize("top", ["0", "-1"])
def test_predict_prints_at_least_one_label(trained, top):
    done = run_command("predict", trained, "examples/letters.jsonl", "--top", top)
    assert done.returncode == 1
    assert "longdoc: --top must be 1 or more" in done.stderr


def test_report_is_made_of_run_folders_alone(trained, tmp_path):
    done = run_command("report", trained, "--output", str(tmp_path / "r.html"))
    assert done.returncode == 0, done.stderr
    assert "longdoc report" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_compare_with_a_plan_writes_table_and_report(tmp_path):
    (tmp_path / "p.yaml").write_text(
        "name: p\nseeds: [0]\nbaselines: false\nresamples: 100\n"
        "settings: {data: {dataset: examples/letters.jsonl}}\n"
        "systems:\n  - {name: svm, baseline: {name: tfidf-svm}}\n  - {name: maj, baseline: {name: majority}}\n"
    )
    done = run_command("compare", str(tmp_path / "p.yaml"), "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "svm has the highest macro-F1" in " ".join(done.stdout.split())
    assert (tmp_path / "p" / "report.html").exists()
    assert (tmp_path / "p" / "comparison.json").exists()


def test_brackets_in_names_are_no_markup(tmp_path):
    rows = [{"text": "a b", "labels": ["[/b]"]}, {"text": "c d", "labels": ["[red]x"]}] * 6
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    shown = run_command("datasets", "labels", str(tmp_path / "d.jsonl"))
    assert "[/b]" in shown.stdout, shown.stderr
    assert "[red]x" in shown.stdout
    done = run_command(
        "train", "--data.dataset", str(tmp_path / "d.jsonl"), "--baseline.name", "majority",
        "--name", "[/i]", "--output", str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "[/i]" in done.stdout


def test_labels_that_begin_alike_are_told_apart_in_a_narrow_terminal(tmp_path):
    ends = ["tenth", "end", "end"]
    rows = [{"text": "a b", "labels": [f"alike-until-the-{end}"]} for end in ends * 9]
    file = write_jsonl(tmp_path / "own.jsonl", rows)
    done = run_command("datasets", "labels", str(file), COLUMNS="80")
    assert done.returncode == 0, done.stderr
    assert "alike-until-the-tenth" in done.stdout
    assert "alike-until-the-end" in done.stdout
    heads, cells = (
        [cell.strip() for cell in re.split("[│┃]", line)]
        for line in done.stdout.splitlines()
        if "IRLbl" in line or "alike-until-the-tenth" in line
    )
    counts = json.loads(run_command("datasets", "labels", str(file), "--format", "json").stdout)[
        "splits"
    ]["train"]["labels"]
    wanted = counts["alike-until-the-end"] / counts["alike-until-the-tenth"]
    assert cells[heads.index("IRLbl")] == f"{wanted:.1f}"


def test_labels_as_json_csv_and_table(tmp_path):
    done = run_command("datasets", "labels", "examples/letters.jsonl", "--format", "json")
    found = json.loads(done.stdout)
    assert set(found) == {"dataset", "task", "splits"}
    assert found["splits"]["train"]["documents"] == 60
    counts = list(found["splits"]["train"]["labels"].values())
    assert counts == sorted(counts, reverse=True)
    done = run_command("datasets", "labels", "examples/letters.jsonl", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert int(rows[0]["documents"]) == counts[0]
    assert float(rows[0]["share"]) == pytest.approx(counts[0] / 60, abs=1e-6)
    shown = run_command("datasets", "labels", "examples/letters.jsonl").stdout
    assert "labels a document" in shown
    measures = found["splits"]["train"]["imbalance"]
    assert measures["mean_ir"] == pytest.approx(np.mean([counts[0] / count for count in counts]))
    assert measures["labels"]["repair"]["ir"] == 1.0
    assert f"mean IR {measures['mean_ir']:.2f}" in shown
    for row in rows:
        known = measures["labels"][row["label"]] if row["split"] == "train" else {"ir": None}
        assert float(row["irlbl"] or "nan") == pytest.approx(known["ir"] or np.nan, nan_ok=True)


def test_lengths_in_words_and_in_tokens(tmp_path):
    done = run_command("datasets", "lengths", "examples/letters.jsonl", "--format", "json")
    found = json.loads(done.stdout)["train"]
    assert found["fitting"]["512"] == {"documents": 1.0, "tokens": 1.0}
    tokens = run_command(
        "datasets",
        "lengths",
        "examples/letters.jsonl",
        "--tokenizer",
        "mamba-mini",
        LONGDOC_CACHE=str(tmp_path),
    )
    assert "tokens that fit" in tokens.stdout, tokens.stderr


def test_datasets_lists_and_shows_cards():
    assert "echr-acl2019" in run_command("datasets").stdout
    shown = run_command("datasets", "show", "reuters-21578").stdout
    for part in ("licence", "address", "checksum", "train 7770", "validation none", "Lewis 1997"):
        assert part in shown


def test_explain_one_setting_and_all():
    one = run_command("explain", "adapter.alpha").stdout
    assert "alpha / r" in one
    assert "[wang2024e5mistral]" in one
    assert len(run_command("explain").stdout) > 10 * len(one)


def test_doctor_says_which_kernels_run_and_why():
    assert "compiled kernels" in run_command("doctor").stdout
    without = run_command("doctor", LONGDOC_NATIVE="0").stdout
    assert "because LONGDOC_NATIVE=0 is set" in without
    assert "about ten times slower" in without
    assert "unset it" in without
    assert "install longdoc again" not in without


def test_doctor_says_of_every_data_set_and_backbone_whether_it_is_here(tmp_path):
    said = run_command("doctor", LONGDOC_DATA=str(tmp_path), HOME=str(tmp_path)).stdout
    lines = {line.split()[0]: line for line in said.split("what to do")[0].splitlines() if line}
    for name in ("ecthr-cases", "lexglue-ecthr-a", "pubmed-mesh", "reuters-21578"):
        assert "not here" in lines[name], lines[name]
    for name in ("python-imports", "synthetic", "bytecode", "git-log:PATH"):
        assert "on every machine" in lines[name], lines[name]
    for name in ("mamba-mini", "gpt-neo-mini", "bert-mini"):
        assert "pretrained by this project" in lines[name], lines[name]
    (tmp_path / "pubmed-mesh").mkdir()
    (tmp_path / "pubmed-mesh" / "allMeSH_2022.json").write_text("{}")
    said = run_command("doctor", LONGDOC_DATA=str(tmp_path), HOME=str(tmp_path)).stdout
    assert str(tmp_path / "pubmed-mesh" / "allMeSH_2022.json") in said


@pytest.mark.slow
def test_without_compiled_kernels_training_works_and_says_that_it_is_slow(tmp_path):
    done = run_command(
        "train",
        *TINY,
        "--data.train-documents",
        "16",
        "--output",
        str(tmp_path),
        LONGDOC_NATIVE="0",
    )
    assert done.returncode == 0, done.stderr
    assert (
        "Mamba is slow here: blocked tensor operations, because LONGDOC_NATIVE=0 is set"
        in done.stderr
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "--data.dataset", "nowhere"), "longdoc: there is no file or folder nowhere"),
        (("predict", "nowhere", "x.txt"), "longdoc: there is no run folder nowhere"),
        (("compare", "nowhere.yaml"), "longdoc: there is no settings file nowhere.yaml"),
        (("explain", "adaptr"), "longdoc: no setting named 'adaptr'; did you mean"),
        (
            ("datasets", "show", "reuter"),
            "longdoc: no data set named 'reuter'; did you mean reuters-21578",
        ),
        (("report",), "longdoc: no run folder to report on"),
    ],
)
def test_what_a_user_can_mend_is_one_sentence_without_a_traceback(arguments, message):
    done = run_command(*arguments)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(message)


def test_who_stops_reading_is_no_error_to_tell_of():
    command = [sys.executable, "-m", "longdoc", "explain", "--markdown"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as shown:
        shown.stdout.close()  # before anything is printed
        said = shown.stderr.read().decode()
    assert shown.returncode == 1
    assert "Traceback" not in said
    assert "Broken" not in said


def test_an_output_that_is_a_file_is_said_in_a_sentence(tmp_path):
    plan, taken = tmp_path / "plan.yaml", tmp_path / "taken"
    data = "data: {dataset: examples/letters.jsonl}"
    plan.write_text(f"{{settings: {{{data}}}, seeds: [0], baselines: true, systems: []}}")
    taken.write_text("kept")
    for command in (["compare", str(plan)], ["train", *TINY, "--baseline.name", "majority"]):
        done = run_command(*command, "--output", str(taken))
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert re.search(rf"longdoc: .*{taken}.*: (Not a directory|File exists)", done.stderr)
    assert taken.read_text() == "kept"


def test_an_unknown_option_names_the_nearest():
    done = run_command("train", "--training.epoch", "3")
    assert done.returncode != 0
    shown = " ".join(re.sub("[│╭╮╰╯─]", " ", done.stdout + done.stderr).split())
    assert "Did you mean" in shown
    assert "--training.epochs" in shown


@pytest.mark.slow
def test_a_killed_comparison_goes_on_to_the_result_of_an_undisturbed_one(tmp_path):
    (tmp_path / "p.yaml").write_text(
        "name: p\nseeds: [0, 1]\nbaselines: false\nresamples: 100\n"
        "settings:\n  data: {dataset: examples/letters.jsonl}\n"
        "  tokens: {max_tokens: 32, vocabulary: 400}\n  training: {epochs: 4, patience: 0, precision: float32}\n"
        "systems: [{name: m, backbone: {name: mamba-mini, pretrained: false}}]\n"
    )
    command = [sys.executable, "-m", "longdoc", "compare", str(tmp_path / "p.yaml"), "--output"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": ROOT}
    running = subprocess.Popen([*command, str(tmp_path / "killed")], **quiet)
    runs = tmp_path / "killed" / "p" / "runs"
    deadline = time.monotonic() + 120
    while (
        not list(runs.glob("m-seed0-*")) and running.poll() is None and time.monotonic() < deadline
    ):
        time.sleep(0.02)
    time.sleep(0.5)  # now the second run is under way
    assert running.poll() is None
    running.kill()
    running.wait(timeout=30)
    assert not (tmp_path / "killed" / "p" / "comparison.json").exists()
    for place in ("killed", "whole"):
        subprocess.run([*command, str(tmp_path / place)], **quiet, check=True, timeout=240)
    kept = [
        json.loads((tmp_path / p / "p" / "comparison.json").read_text())
        for p in ("killed", "whole")
    ]
    assert kept[0] == kept[1]
    assert [p.name for p in runs.iterdir() if p.name.startswith(".")] == []
