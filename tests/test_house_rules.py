"""The rules of the house that no linter knows."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from longdoc.backbones.catalog import BACKBONES
from longdoc.documents.catalog import DATASETS
from longdoc.experiments import explain, plan, space
from longdoc.sources import lookup, references
from tests.conftest import ROOT

PACKAGE = ROOT / "longdoc"
LONGEST_FUNCTION, LONGEST_FILE = 40, 400
EXCEPTIONS: dict[str, str] = {}
"""May only get shorter."""


def functions():
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield path.relative_to(ROOT).as_posix(), node


def length(node):
    """Count a function's lines without signature and docstring."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return (body[-1].end_lineno - body[0].lineno + 1) if body else 0


def test_functions_are_short():
    found = {f"{file}:{node.name}" for file, node in functions() if length(node) > LONGEST_FUNCTION}
    assert found == set(EXCEPTIONS)


def test_files_are_short():
    sizes = {p: len(p.read_text(encoding="utf-8").splitlines()) for p in PACKAGE.rglob("*.py")}
    assert {p.name: n for p, n in sizes.items() if n > LONGEST_FILE} == {}


def test_every_room_says_what_it_is_for():
    for path in PACKAGE.rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_no_file_is_called_utils():
    bad = {"utils", "common", "helpers", "misc", "base", "manager", "core"}
    assert not [p for p in PACKAGE.rglob("*") if p.stem in bad]


@pytest.mark.parametrize("card", DATASETS.values(), ids=lambda card: card.name)
def test_every_data_card_is_complete(card):
    assert card.summary
    assert card.licence
    assert card.address
    assert lookup(card.reference).title
    if card.layout:
        assert len(card.checksum) == 64
        assert set(card.documents) == set(card.tasks)


@pytest.mark.parametrize("card", BACKBONES.values(), ids=lambda card: card.name)
def test_every_backbone_card_is_complete(card):
    assert card.summary
    assert card.licence
    assert lookup(card.reference).title
    assert card.width > 0
    assert card.context >= 512
    assert bool(card.checkpoint) + bool(card.package) == 1
    assert (card.package is None) == (card.checksum == "")


def test_every_reference_can_be_cited():
    for reference in references().values():
        assert reference.title
        assert reference.short()
        assert reference.year.isdigit(), reference.key
        assert "\\" not in reference.authors, reference.key


def test_defaults_page_is_what_the_code_says():
    kept = (ROOT / "docs" / "defaults.md").read_text(encoding="utf-8")
    made = explain.markdown(explain.every_setting())
    assert kept == made, "docs/defaults.md is old: longdoc explain --markdown > docs/defaults.md"


@pytest.mark.parametrize("file", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda f: f.name)
def test_every_shipped_plan_loads(file):
    assert plan.read(file).runs


@pytest.mark.parametrize(
    "file", sorted((ROOT / "docs" / "results").glob("*.yaml")), ids=lambda f: f.name
)
def test_every_plan_of_a_study_loads(file):
    assert plan.read(file).runs


@pytest.mark.parametrize(
    "file", sorted((ROOT / "docs" / "results" / "sweeps").glob("*.yaml")), ids=lambda f: f.name
)
def test_every_sweep_of_a_study_loads(file):
    assert space.read(str(file)).about.name == file.stem


def test_no_workplace_path_or_tool_is_named():
    words = ["/" + "work/", "farm" + "-studio", "/." + "library"]
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.split():
        path = Path(ROOT / name)
        if (
            path.suffix in (".py", ".md", ".yaml", ".toml", ".cpp", ".inc", ".txt", "")
            and path.is_file()
        ):
            content = path.read_text(encoding="utf-8", errors="replace")
            assert not [word for word in words if word in content], name


@pytest.mark.slow
@pytest.mark.parametrize(
    "file", sorted((ROOT / "examples").glob("[0-9]*.py")), ids=lambda f: f.name
)
def test_every_example_runs(file, tmp_path):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    command = [sys.executable, str(file)]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_letters_are_what_their_script_writes():
    made = subprocess.run(
        [sys.executable, "examples/make_letters.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert made.stdout == (ROOT / "examples" / "letters.jsonl").read_text(encoding="utf-8")
