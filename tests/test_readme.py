"""The README's commands are run as they stand; those that need a network, a GPU or hours are named."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, run_command

LEFT_OUT = {
    "git clone": "needs the repository's address",
    "make": "would install and run everything again; CI runs it",
    "source .venv": "changes the shell",
    "my.jsonl": "stands for the reader's own file",
    "pip install": "needs the package index",
}


def blocks(kind):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)


def commands():
    lines = [line.split("  #")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line and not any(word in line for word in LEFT_OUT)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reader")
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder


def environment():
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.mark.slow
def test_every_command_of_the_readme_runs(place):
    assert len(commands()) >= 4
    for command in commands():
        done = subprocess.run(
            ["bash", "-c", command], cwd=place, env=environment(),
            capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stderr[-2000:]}"


def test_the_commands_left_out_start_as_they_should():
    """A command that cannot run here must at least be one that exists, with options that exist."""
    helps = {}
    for line in "\n".join(blocks("sh")).splitlines():
        found = re.search(r"longdoc (train|compare|predict|sweep) (.*?)(  #|$)", line)
        if not found:
            continue
        verb = found[1]
        helps[verb] = helps.get(verb) or run_command(verb, "--help", COLUMNS="200").stdout
        assert all(flag in helps[verb] for flag in re.findall(r"--[a-z.-]+", found[2])), line
    assert "train" in helps


@pytest.mark.slow
def test_the_python_of_the_readme_runs(place):
    for block in blocks("python"):
        done = subprocess.run(
            [sys.executable, "-c", block],
            cwd=place,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]


def test_the_plans_of_the_readme_load():
    import yaml

    from longdoc.experiments import space
    from longdoc.experiments.plan import make

    plan, sweep = blocks("yaml")
    assert len(make(yaml.safe_load(plan)).runs) == 2 + 3 * 3
    assert space.make(yaml.safe_load(sweep)).trials() == 12


@pytest.mark.slow
@pytest.mark.parametrize("folds", ["", " --data.folds 2"])
def test_torchrun_trains_one_run(place, folds):
    if shutil.which("torchrun", path=environment()["PATH"]) is None:
        pytest.skip("torchrun is not on the path")
    command = (
        "torchrun --standalone --nproc_per_node=2 -m longdoc train --data.dataset examples/letters.jsonl "
        "--tokens.max-tokens 32 --training.epochs 1 --training.batch-size 4 --name two --output two"
    )
    command += folds
    shutil.rmtree(place / "two", ignore_errors=True)
    done = subprocess.run(
        ["bash", "-c", command], cwd=place, env=environment(),
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert [p.name.split("-")[0] for p in (place / "two").iterdir()] == ["two"]
