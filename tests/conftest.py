"""What many tests share: one thread a process, a cache of their own, and small corpora."""

import functools
import json
import os
import random
import subprocess
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # no test may wait for a hub; read when transformers is loaded

import pytest
import torch
import transformers

from longdoc.documents.document import Corpus, Document, make_corpus
from longdoc.kernels import linear
from tests import forked

ROOT = Path(__file__).parent.parent
torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest tests, so that no process waits for another at the end."""
    items.sort(key=lambda item: item.path.name not in ("test_readme.py", "test_house_rules.py"))


@pytest.fixture(autouse=True)
def own_places(tmp_path_factory, monkeypatch):
    """Give the test session a cache of its own, and let relative paths start at the project."""
    cache = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("LONGDOC_CACHE", str(cache))
    monkeypatch.chdir(ROOT)


@pytest.fixture
def real_data():
    """Give the folder of the real data sets, or skip with the reason."""
    folder = os.environ.get("LONGDOC_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("LONGDOC_DATA does not name a folder with the real data sets")
    return Path(folder)


@pytest.fixture(params=["torch", "oneDNN"])
def library(request, monkeypatch):
    """Make float32 products by either library, whichever this processor would have."""
    operator = torch.ops.mkldnn._linear_pointwise if request.param == "oneDNN" else None
    monkeypatch.setattr(linear, "_onednn", operator)


@pytest.fixture
def letters() -> Corpus:
    """Read the example letters."""
    from longdoc.documents import files

    return files.load(ROOT / "examples" / "letters.jsonl")


WORDS = ["river", "stone", "cloud", "bread", "lamp", "forest", "coin", "salt", "wheel", "glass"]


def made_corpus(kind: str = "multi-label", documents: int = 48, seed: int = 0) -> Corpus:
    """Make a small corpus whose labels are words that occur in its documents."""
    generator = random.Random(seed)
    names = WORDS[:2] if kind == "binary" else WORDS[:4]
    made = []
    for number in range(documents):
        words = generator.choices(WORDS[4:], k=generator.randint(3, 30))
        count = generator.randint(0, 2) if kind == "multi-label" else 1
        labels = generator.sample(names, count)
        words += labels * 2
        generator.shuffle(words)
        made.append(Document(str(number), (" ".join(words),), tuple(labels)))
    third = documents // 4
    splits = {"train": made[: 2 * third], "validation": made[2 * third : 3 * third],
              "test": made[3 * third :]}  # fmt: skip
    return make_corpus("made", "words", kind, splits, labels=names)


@functools.cache
def commands() -> forked.Commands:
    return forked.Commands()


def run_command(
    *arguments: str, cwd: Path = ROOT, said: str = "", **environment: str
) -> subprocess.CompletedProcess:
    """Run the real command line in a process of its own; ``said`` is its standard input."""
    whole = {**os.environ, "COLUMNS": "160", **environment}
    if commands().fits(whole):
        return commands().run(arguments, cwd, whole, said, 300)
    return subprocess.run(
        [sys.executable, "-c", "import _longdoc_command as c; c.main()", *arguments],
        input=said,
        capture_output=True,
        text=True,
        cwd=cwd,
        env=whole,
        timeout=300,
        check=False,
    )


def write_jsonl(file: Path, rows: list[dict]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


__all__ = ["made_corpus", "run_command", "write_jsonl"]
