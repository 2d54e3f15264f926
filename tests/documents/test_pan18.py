"""PAN 2018: thirty problems with their published counts, scored as the organisers do."""

import json
import shutil
import tarfile
import zipfile

import numpy as np
import pytest
from sklearn.metrics import f1_score

from longdoc.documents import catalog, pan18
from longdoc.documents.catalog import DataSettings
from longdoc.errors import DataError

TRAINING = "pan18-cross-domain-authorship-attribution-training-dataset-2017-12-02"


def problem(root, candidates=("candidate00001", "candidate00002"), truth=None, known=b"known text"):
    """Make a small problem in the official layout."""
    folder = root / TRAINING / "problem00001"
    for name in candidates:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(7):
            (folder / name / f"known{number:05}.txt").write_bytes(known + name.encode())
    (folder / "unknown").mkdir(exist_ok=True)
    truth = truth or {"unknown00001.txt": "candidate00002", "unknown00002.txt": "candidate00001"}
    for name in ("unknown00001.txt", "unknown00002.txt"):
        (folder / "unknown" / name).write_text(name)
    info = {
        "unknown-folder": "unknown",
        "candidate-authors": [{"author-name": n} for n in candidates],
    }
    (folder / "problem-info.json").write_text(json.dumps(info))
    rows = [{"unknown-text": text, "true-author": author} for text, author in truth.items()]
    (folder / "ground-truth.json").write_text(json.dumps({"ground_truth": rows}))
    languages = [{"problem-name": "problem00001", "language": "en", "encoding": "UTF-8"}]
    (root / TRAINING / "collection-info.json").write_text(json.dumps(languages))
    return root


@pytest.mark.golden
def test_every_problem_has_its_counts(real_data):
    found, notes = pan18.problems()
    assert len(found) == 30
    assert sum(len(p.known) for p in found if p.name.startswith("train")) == 875
    assert sum(len(p.unknown) for p in found if p.name.startswith("train")) == 621
    assert sum(len(p.known) for p in found if p.name.startswith("test")) == 1750
    assert sum(len(p.unknown) for p in found if p.name.startswith("test")) == 1315
    for each in found:
        assert pan18.TASKS[each.name] == (each.language, len(each.candidates), len(each.unknown))
        assert {d.labels[0] for d in each.unknown} == set(each.candidates)
    assert notes["checksum_known"] is True


@pytest.mark.golden
def test_a_problem_is_a_task(real_data):
    corpus = catalog.prepare(DataSettings(dataset="pan18-attribution", task="test-problem00004"))
    assert corpus.kind == "multi-class"
    assert len(corpus.labels) == 5
    assert len(corpus.splits["test"]) == 16
    assert len(corpus.splits["train"]) + len(corpus.splits["validation"]) == 35
    assert corpus.notes["language"] == "en"


@pytest.mark.parametrize("packed", ["folder", "zip", "tar"])
def test_folders_and_archives_are_read_alike(tmp_path, packed):
    root = problem(tmp_path / "pan18-cdaa")
    place = root
    if packed == "zip":
        place = tmp_path / "pan18-cdaa.zip"
        with zipfile.ZipFile(place, "w") as archive:
            for file in sorted(root.rglob("*")):
                archive.write(file, file.relative_to(tmp_path))
    elif packed == "tar":
        place = tmp_path / "pan18-cdaa.tar.gz"
        with tarfile.open(place, "w:gz") as archive:
            archive.add(root, "pan18-cdaa")
    (found,), _ = pan18.problems(str(place))
    assert (found.name, found.language) == ("train-problem00001", "en")
    assert [d.labels for d in found.unknown] == [("candidate00002",), ("candidate00001",)]
    assert len(found.known) == 14


def test_the_score_is_the_official_one():
    generator = np.random.default_rng(0)
    names = [f"candidate{n:05}" for n in range(6)]
    for _ in range(50):
        truth = generator.choice(names[:5], 30).tolist()
        given = generator.choice([*names, "<UNK>", "nobody"], 30).tolist()
        labels = sorted(set(truth))
        wanted = f1_score(truth, given, labels=labels, average="macro", zero_division=0)
        assert pan18.macro_f1(truth, given) == pytest.approx(wanted)
    assert pan18.macro_f1(["a", "b"], ["<UNK>", "<UNK>"]) == 0.0


def test_what_is_wrong_is_said_with_its_place(tmp_path):
    root = problem(
        tmp_path / "a", truth={"unknown00001.txt": "somebody", "unknown00002.txt": "candidate00001"}
    )
    with pytest.raises(
        DataError, match=r"unknown00001.txt: its true author 'somebody' is no candidate"
    ):
        pan18.problems(str(root))
    three = dict.fromkeys(
        ("unknown00001.txt", "unknown00002.txt", "unknown00009.txt"), "candidate00001"
    )
    with pytest.raises(DataError, match=r"no text 'unknown00009.txt' in the folder unknown"):
        pan18.problems(str(problem(tmp_path / "b", truth=three)))
    with pytest.raises(DataError, match=r"known00000.txt: not UTF-8"):
        pan18.problems(str(problem(tmp_path / "c", known=b"\xff\xfe\x00")))
    root = problem(tmp_path / "d")
    (root / TRAINING / "problem00001" / "ground-truth.json").write_text("[]")
    with pytest.raises(
        DataError, match=r"ground-truth.json: expected a list of objects with unknown-text"
    ):
        pan18.problems(str(root))
    (root / TRAINING / "problem00001" / "ground-truth.json").unlink()
    with pytest.raises(DataError, match=r"train-problem00001: no ground-truth.json"):
        pan18.problems(str(root))
    shutil.rmtree(root / TRAINING / "problem00001")
    with pytest.raises(DataError, match="no problem folders of PAN 2018's training or test"):
        pan18.problems(str(root))


def test_a_problem_with_a_text_missing_is_no_whole_copy(tmp_path):
    place = problem(tmp_path)
    with pytest.raises(DataError, match="not a whole copy of pan18-attribution"):
        catalog.load(
            DataSettings(dataset="pan18-attribution", task="train-problem00001", path=str(place))
        )
    with pytest.raises(DataError, match="there is no test-problem00002 in it"):
        catalog.load(
            DataSettings(dataset="pan18-attribution", task="test-problem00002", path=str(place))
        )


@pytest.mark.parametrize("packed", [False, True])
def test_a_collections_own_folder_or_archive_is_read(tmp_path, packed):
    place = problem(tmp_path) / TRAINING
    if packed:
        shutil.make_archive(str(place), "zip", place)
        place = place.with_name(f"{TRAINING}.zip")
    found, _ = pan18.problems(str(place))
    assert [each.name for each in found] == ["train-problem00001"]
    assert found[0].language == "en"
