"""How long reading takes, and how much memory, each in a process of its own.

    python benchmarks/reading.py reopen     EURLEX57K, ECHR-ACL2019: read, reopened (LONGDOC_DATA)
    python benchmarks/reading.py pubmed     a generated file of 2 GB in BioASQ's form
    python benchmarks/reading.py predict    100,000 documents of JSON Lines classified

Prints seconds and the peak of resident memory; a process that only loads the code is the floor.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LOAD = """
import _longdoc_command  # as the command line does: without torch
import sys, time
from longdoc.documents import catalog
from longdoc.documents.catalog import DataSettings
start = time.perf_counter()
if sys.argv[1]:
    corpus = catalog.load(DataSettings(dataset=sys.argv[1], path=sys.argv[2] or None))
    sizes = {split: len(part) for split, part in corpus.splits.items()}
    print(f"{time.perf_counter() - start:.2f} s for {sizes}", end="")
"""
PREDICT = "import _longdoc_command as c; c.main()"


def measure(what, code, *arguments, output=None, **environment):
    """Run code in a process; print its words, seconds and peak."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdout=output or said,
            env={**os.environ, **environment},
        )
        _, status, used = os.wait4(process.pid, 0)
        said.seek(0)
        words = said.read()
    if status:
        sys.exit(f"{what} failed")
    seconds = time.perf_counter() - start
    print(
        f"{what}: {words}; process {seconds:.1f} s, peak {used.ru_maxrss / 1024:.0f} MB", flush=True
    )


def words_of(generator, count):
    return " ".join(
        VOCABULARY[int(generator.paretovariate(0.7)) % len(VOCABULARY)] for _ in range(count)
    )


VOCABULARY = [
    "".join(random.Random(n).choices("abcdefghijklmnopqrstuvwxyz", k=3 + n % 9))
    for n in range(30_000)
]


def reopen(folder):
    measure("nothing", LOAD, "", "")
    for name in ("eurlex57k", "echr-acl2019"):
        cache = str(folder / name)
        for how in ("read", "reopened", "reopened", "reopened"):
            measure(f"{name} {how}", LOAD, name, "", LONGDOC_CACHE=cache)


def pubmed(folder):
    generator, file = random.Random(0), folder / "allMeSH.json"
    texts = [words_of(generator, 200) for _ in range(500)]
    with file.open("w") as stream:
        stream.write('{"articles":[')
        number = 0
        while stream.tell() < 2e9:
            headings = [VOCABULARY[int(generator.paretovariate(0.5)) % 28_000] for _ in range(12)]
            article = {
                "journal": "J", "meshMajor": headings, "year": str(1990 + number % 30),
                "abstractText": f"{number} {texts[number % 500]}", "pmid": str(number),
                "title": texts[number % 499][:90],
            }  # fmt: skip
            stream.write((",\n" if number else "") + json.dumps(article))
            number += 1
        stream.write("]}")
    print(f"{number} articles, {file.stat().st_size / 1e9:.2f} GB")
    measure("nothing", LOAD, "", "")
    measure("pubmed-mesh", LOAD, "pubmed-mesh", str(file))


def predict(folder):
    common = ["--data.dataset", "examples/letters.jsonl", "--output", str(folder / "runs")]
    small = ["--tokens.max-tokens", "32", "--training.epochs", "1"]
    systems = {
        "tfidf-svm": (["--baseline.name", "tfidf-svm"], 400),
        "mamba-mini": (["--backbone.name", "mamba-mini", *small], 40),
    }
    for name, (options, length) in systems.items():
        command = [sys.executable, "-c", PREDICT, "train", *common, *options, "--name", name]
        subprocess.run(command, check=True, capture_output=True)
        (run,) = (folder / "runs").glob(f"{name}*")
        for count in (10_000, 100_000):
            file = documents(folder / f"{name}-{count}.jsonl", count, length)
            what = f"{name}, {count} documents of {length} words"
            with (folder / "out.jsonl").open("w") as out:
                arguments = ("predict", str(run), str(file), "--top", "1")
                measure(what, PREDICT, *arguments, output=out)


def documents(file, count, length):
    generator = random.Random(0)
    texts = [words_of(generator, length) for _ in range(997)]
    with file.open("w") as stream:
        for number in range(count):
            row = {"id": str(number), "text": f"{number} {texts[number % 997]}"}
            stream.write(json.dumps(row) + "\n")
    return file


if __name__ == "__main__":
    parts = {"reopen": reopen, "pubmed": pubmed, "predict": predict}
    for part in sys.argv[1:] or list(parts):
        with tempfile.TemporaryDirectory() as place:
            parts[part](Path(place))
