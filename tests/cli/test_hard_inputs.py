"""Odd but possible calls of the command line."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from longdoc.experiments import store
from tests.conftest import ROOT, run_command


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    letters = str(ROOT / "examples" / "letters.jsonl")
    done = run_command("train", "--data.dataset", letters, "--baseline.name", "tfidf-svm", "--output", str(root))  # fmt: skip
    assert done.returncode == 0, done.stderr
    (folder,) = (f for f in root.iterdir() if store.is_complete(f))
    return folder


def command(*arguments, environment=None, **options):
    return subprocess.run(
        [sys.executable, "-m", "longdoc", *arguments],
        cwd=ROOT, env={**os.environ, **(environment or {})}, capture_output=True, check=False,
        **options,
    )  # fmt: skip


def test_one_text_is_read_from_standard_input_as_from_a_file(run, tmp_path):
    text = "\ufeffThe lift is broken.\n\nI want my money back.\n"
    (tmp_path / "x.txt").write_text(text, encoding="utf-8")
    piped = command("predict", str(run), "-", input=text.encode())
    assert piped.returncode == 0, piped.stderr
    read = command("predict", str(run), str(tmp_path / "x.txt"))
    first, second = json.loads(piped.stdout), json.loads(read.stdout)
    assert (first["id"], second["id"]) == ("-", "x.txt")
    assert first["labels"] == second["labels"]


def test_a_pipe_is_a_file(run):
    script = f'"{sys.executable}" -m longdoc predict "{run}" <(echo The lift is broken)'
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("output", ["", ".", ".."])
def test_a_report_that_cannot_be_written_is_said_before_it_is_made(run, output):
    done = run_command("report", str(run), "--output", output)
    assert done.returncode == 1
    assert "which is a folder; name a file" in done.stderr
    assert done.stderr.count("\n") == 1


def test_nothing_is_left_beside_a_folder_of_the_reports_name(run, tmp_path):
    (tmp_path / "page").mkdir()
    done = run_command("report", str(run), "--output", str(tmp_path / "page"))
    assert done.returncode == 1
    assert [f.name for f in tmp_path.iterdir()] == ["page"]


def test_a_report_says_a_command_that_makes_it_again(run, tmp_path):
    file = tmp_path / "odd name.html"
    done = run_command("report", str(run), "--output", str(file))
    assert done.returncode == 0, done.stderr
    assert "odd name.html&#39;" in file.read_text(encoding="utf-8")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_behind_standard_output_is_one_sentence():
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "longdoc", "explain"],
            cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "longdoc: what is to be written: No space left on device\n"


def test_letters_that_a_terminal_does_not_know_are_no_error(tmp_path):
    (tmp_path / "x.jsonl").write_text(
        '{"text": "a", "label": "Gebühr\u00a0"}\n{"text": "b", "label": "\\u001b[31mred"}\n',
        encoding="utf-8",
    )
    ascii_only = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = command("datasets", "labels", str(tmp_path / "x.jsonl"), environment=ascii_only)
    assert done.returncode == 0, done.stderr
    assert b"Geb\\xfchr" in done.stdout
    assert b"\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("--rounds", "0"), "--rounds must be 1 or more"), (("--json-file", "."), "cannot write to '.'")],
)  # fmt: skip
def test_a_bench_that_cannot_be_is_not_begun(arguments, words):
    done = run_command("bench", *arguments)
    assert done.returncode == 1
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_slip_in_an_option_is_no_file(run, tmp_path):
    (tmp_path / "x.txt").write_text("The lift is broken")
    done = run_command("predict", str(run), str(tmp_path / "x.txt"), "--txt-field", "x")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "longdoc: there is no option or file --txt-field\n"


def test_an_interrupted_training_says_that_the_same_command_goes_on(tmp_path):
    command = [
        sys.executable, "-m", "longdoc", "train", "--data.dataset", "examples/letters.jsonl",
        "--training.epochs", "300", "--training.patience", "300", "--output", str(tmp_path),
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        seen = next((line for line in process.stderr if "epoch" in line), "")
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert seen
    assert process.returncode == 130
    assert rest.endswith("longdoc: interrupted; the same command goes on where it was\n")
