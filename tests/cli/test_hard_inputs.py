"""Odd but possible calls of the command line."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cyclopts import Token

from longdoc.cli import app
from longdoc.cli.options import whole
from longdoc.experiments import store
from tests.conftest import ROOT, run_command, write_jsonl


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    letters = str(ROOT / "examples" / "letters.jsonl")
    done = run_command("train", "--data.dataset", letters, "--baseline.name", "tfidf-svm", "--output", str(root))  # fmt: skip
    assert done.returncode == 0, done.stderr
    (folder,) = (f for f in root.iterdir() if store.is_complete(f))
    return folder


def test_one_text_is_read_from_standard_input_as_from_a_file(run, tmp_path):
    text = "\ufeffThe lift is broken.\n\nI want my money back.\n"
    (tmp_path / "x.txt").write_text(text, encoding="utf-8")
    piped = run_command("predict", str(run), "-", said=text)
    assert piped.returncode == 0, piped.stderr
    read = run_command("predict", str(run), str(tmp_path / "x.txt"))
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
    done = run_command("datasets", "labels", str(tmp_path / "x.jsonl"), **ascii_only)
    assert done.returncode == 0, done.stderr
    assert "Geb\\xfchr" in done.stdout
    assert "\x1b" not in done.stdout


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


def test_an_interrupted_bench_keeps_what_it_has_apart_and_says_that_it_begins_again(tmp_path):
    kept = tmp_path / "kernels.json"
    kept.write_text("an earlier run")
    command = [
        sys.executable, "-m", "longdoc", "bench", "--quick", "--part", "models",
        "--json-file", str(kept),
    ]  # fmt: skip
    unfinished = tmp_path / "kernels.json.unfinished"
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not unfinished.is_file():
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130
    assert said.endswith("longdoc: interrupted; the same command begins again\n")
    assert kept.read_text() == "an earlier run"
    assert json.loads(unfinished.read_text())["measured"]


def test_a_plan_says_at_once_what_cannot_be_run_and_ends_with_one(tmp_path):
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "name: two\nseeds: [0]\nbaselines: false\nresamples: 100\n"
        "settings:\n  data: {dataset: examples/letters.jsonl}\n"
        "systems:\n- name: svm\n  baseline: {name: tfidf-svm}\n"
        "- name: slip\n  backbone: {name: mamba-minii}\n"
    )
    done = run_command("compare", str(plan), "--output", str(tmp_path))
    assert done.returncode == 1
    first = done.stderr.splitlines()[0]
    assert first.startswith(
        "longdoc: slip (seed 0) cannot be trained now: backbone.name 'mamba-minii' is"
    )
    assert "not run: slip (seed 0)" in done.stdout
    assert (tmp_path / "two" / "report.html").is_file()
    plan.write_text(plan.read_text().replace("mamba-minii", "mamba-mini").replace("slip", "majority")
                    .replace("backbone: {name: mamba-mini}", "baseline: {name: majority}"))  # fmt: skip
    again = run_command("compare", str(plan), "--output", str(tmp_path))
    assert (again.returncode, again.stderr.count("cannot be trained")) == (0, 0), again.stderr


@pytest.mark.parametrize("room", [100_000, 1_500_000])
def test_a_training_without_room_for_its_weights_says_so_and_goes_on_with_room(tmp_path, room):
    options = ["train", "--data.dataset", "examples/letters.jsonl", "--backbone.name", "bert-mini",
               "--training.epochs", "1", "--tokens.max-tokens", "64", "--output", str(tmp_path)]  # fmt: skip
    limited = (
        "import resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))\n"
        "import longdoc.cli as command\n"
        "command.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", limited, *options], cwd=ROOT, text=True,
                          capture_output=True, check=False)  # fmt: skip
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert said.startswith("longdoc: "), done.stderr
    assert said.endswith(
        ("there is no room (a full disk, or a limit of files)", "File too large")
    ), said
    assert "Traceback" not in done.stderr
    assert not [path.name for path in tmp_path.iterdir() if not path.name.endswith(".partial")]
    again = run_command(*options)
    assert again.returncode == 0, again.stderr


def test_what_cannot_be_classified_is_named(run, tmp_path):
    (tmp_path / "all.json").write_text('[{"text": "The lift is broken"}]')
    for name, words in (
        ("all.json", "is neither a text nor a table that is read (.jsonl, "),
        ("", "is a folder; name its files, such as "),
        ("none.txt", "there is no file "),
    ):
        done = run_command("predict", str(run), str(tmp_path / name))
        assert (done.returncode, done.stdout) == (1, "")
        assert words in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_text_without_words_is_named_before_others_are_classified(run, tmp_path):
    for name, words in (("a.txt", "My heating is broken."), ("b.txt", " \n")):
        (tmp_path / name).write_text(words, encoding="utf-8")
    done = run_command("predict", str(run), str(tmp_path / "a.txt"), str(tmp_path / "b.txt"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "b.txt holds no text" in done.stderr
    done = run_command("predict", str(run), "-", said="\n")
    assert (done.returncode, done.stdout) == (1, "")
    assert "standard input holds no text" in done.stderr


@pytest.mark.parametrize(
    ("name", "words"),
    [("", "no data set named ''; known"), ("x" * 300, "known: "), ("examples", "has no card")],
)
def test_a_card_is_a_catalogue_data_sets(name, words):
    done = run_command("datasets", "show", name)
    assert done.returncode == 1
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["1", "2"])
def test_what_is_said_of_documents_is_said_once(tmp_path, processes):
    file = tmp_path / "d.jsonl"
    labels = ["tax;work", "tax", "work"]
    rows = [{"text": f"{label} {n}", "label": label} for n in range(20) for label in labels]
    write_jsonl(file, rows)
    plan = tmp_path / "plan.yaml"
    systems = [{"name": name, "baseline": {"name": name}} for name in ("majority", "tfidf-svm")]
    about = {"name": "p", "seeds": [0], "baselines": False, "systems": systems, "resamples": 100}
    values = {**about, "settings": {"data": {"dataset": str(file)}}}
    plan.write_text(json.dumps(values), encoding="utf-8")
    done = run_command("compare", str(plan), "--processes", processes, "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "are each read" in line]
    assert len(said) == 1
    assert said[0].startswith(f"longdoc: {file}: labels with ';'")


@pytest.mark.parametrize(
    "arguments",
    [
        ("bench", "--rounds", "1.5"),
        ("compare", "plan.yaml", "--processes", "x"),
        ("train", "--tokens.max-tokens", "99.5"),
        ("train", "--training.accumulation", "1e3"),
        ("predict", "run", "text.txt", "--top", "2.5"),
    ],
)
def test_no_number_is_rounded_on_its_way_in(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        app(list(arguments))
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert f'"{arguments[-1]}" is no whole number' in said.out + said.err


def test_whole_numbers_are_read_in_every_form():
    for text, number in (("30", 30), ("30.0", 30), ("-1", -1), ("0x1e", 30), ("1_000", 1000)):
        assert whole(int, [Token(value=text)]) == number
