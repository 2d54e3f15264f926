"""BioASQ's articles: read as a stream, whatever their size and form."""

import gzip
import json
import subprocess
import sys
import zipfile

import pytest

from longdoc.documents import catalog, json_stream
from longdoc.documents.catalog import DataSettings
from longdoc.documents.pubmed import PubmedSettings
from longdoc.errors import DataError, SettingsError


def article(number, **changes):
    made = {
        "journal": "J", "meshMajor": ["Humans", f"H{number % 7}"], "year": str(1990 + number % 30),
        "abstractText": f"abstract {number}", "pmid": str(1000 + number), "title": f"title {number}",
    }  # fmt: skip
    return {**made, **changes}


def official(articles):
    """Write as BioASQ does: one article a line in one array."""
    return '{"articles":[' + ",\n".join(json.dumps(a) for a in articles) + "\n]}"


def write(tmp_path, text, name="allMeSH_2022.json"):
    content = text if isinstance(text, bytes) else text.encode()
    (tmp_path / name).write_bytes(content)
    return str(tmp_path / name)


def load(path, **settings):
    data = {"pubmed": PubmedSettings(**settings)} if settings else {}
    return catalog.load(DataSettings(dataset="pubmed-mesh", path=path, **data))


def texts(corpus):
    return {d.id: d.text for part in corpus.splits.values() for d in part}


ARTICLES = [article(n) for n in range(200)]
FORMS = {
    "official": official(ARTICLES),
    "indented": json.dumps({"articles": ARTICLES}, indent=3),
    "blank before": '\ufeff  {\n "articles" :\n [' + ",".join(map(json.dumps, ARTICLES)) + "]}",
    "array": json.dumps(ARTICLES),
    "lines": "\n".join(map(json.dumps, ARTICLES)),
}


@pytest.mark.parametrize("form", list(FORMS))
@pytest.mark.parametrize("chunk", [7, 1000, 2**20])
def test_every_form_is_read_alike_wherever_the_window_ends(tmp_path, monkeypatch, form, chunk):
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    corpus = load(write(tmp_path, FORMS[form]))
    assert texts(corpus) == {a["pmid"]: f"{a['title']}\n{a['abstractText']}" for a in ARTICLES}
    assert corpus.notes["articles_in_the_file"] == 200
    document = corpus.splits["train"][0]
    assert document.about["date"].isdigit()
    assert document.paragraphs[document.heading].startswith("abstract")


@pytest.mark.parametrize("kind", ["gz", "zip"])
def test_a_packed_file_is_read_as_it_is(tmp_path, kind):
    if kind == "gz":
        path = write(tmp_path, gzip.compress(FORMS["official"].encode()), "allMeSH.json.gz")
    else:
        path = str(tmp_path / "allMeSH.zip")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("allMeSH_2022.json", FORMS["official"])
            archive.writestr("__MACOSX/._allMeSH_2022.json", b"\0\5\x16\7")
    assert len(texts(load(path))) == 200


def test_it_is_found_in_the_data_folder(tmp_path, monkeypatch):
    write(tmp_path, FORMS["official"], "allMeSH_2022.json")
    monkeypatch.setenv("LONGDOC_DATA", str(tmp_path))
    assert len(texts(load(None))) == 200


def test_a_sample_is_the_same_for_a_seed_and_stays_when_the_file_grows(tmp_path):
    first = load(write(tmp_path, FORMS["official"]), documents=50)
    assert sum(map(len, first.splits.values())) == 50
    turned = load(write(tmp_path, official(ARTICLES[::-1])), documents=50)
    assert turned.digest() == first.digest()
    longer = load(
        write(tmp_path, official([*ARTICLES, *map(article, range(200, 220))])), documents=50
    )
    where = {d.id: split for split, part in first.splits.items() for d in part}
    again = {d.id: split for split, part in longer.splits.items() for d in part}
    shared = set(where) & set(again)
    assert len(shared) >= 40
    assert all(where[i] == again[i] for i in shared)
    other = catalog.load(
        DataSettings(
            dataset="pubmed-mesh", path=str(tmp_path / "allMeSH_2022.json"), split_seed=1,
            pubmed=PubmedSettings(documents=50),
        )
    )  # fmt: skip
    assert set(texts(other)) != set(again)


def test_shares_of_the_splits_are_those_of_the_settings(tmp_path):
    path = write(tmp_path, official(map(article, range(4000))))
    corpus = catalog.load(DataSettings(dataset="pubmed-mesh", path=path, test_share=0.3))
    sizes = {split: len(part) / 4000 for split, part in corpus.splits.items()}
    assert sizes["test"] == pytest.approx(0.3, abs=0.03)
    assert sizes["validation"] == pytest.approx(0.1, abs=0.02)


def test_years_duplicates_and_articles_without_text(tmp_path):
    rows = [
        article(1, year="1999"), article(2, year="2001"), article(2, year="2001", title="again"),
        article(3, title=None, abstractText="", year="2002"), article(4, year=None),
        article(5, year=2005, title=""),
    ]  # fmt: skip
    path = write(tmp_path, official(rows))
    assert texts(load(path, first_year=2000)) == {
        "1002": "title 2\nabstract 2", "1005": "abstract 5",
    }  # fmt: skip
    assert set(texts(load(path))) == {"1001", "1002", "1004", "1005"}


def test_bytes_that_are_no_utf8_are_read_as_windows_1252(tmp_path):
    text = official([article(1, title="TITLE")]).encode()
    path = write(
        tmp_path, text.replace(b"TITLE", "Sjögren\u2019s".encode("cp1252") + " ü".encode())
    )
    assert texts(load(path))["1001"].startswith("Sjögren\u2019s ü")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FORMS["official"][:-300], "object 199: not JSON|object 198: not JSON"),
        (FORMS["official"][:-2], "ends before its array does"),
        ('{"articles": 3}', "field articles must be an array"),
        ("", "expected a JSON object with an array articles; got ''"),
        ("<html>", "got '<'"),
        ('{"articles":[3]}', "object 1: expected a JSON object; got '3'"),
        (official([article(1, meshMajor="Humans")]), "object 1: field meshMajor must be a list"),
        (official([article(1, title=["a"])]), "object 1: field title must be text"),
        ("[" * 100_000, "object 1: not JSON"),
        ('{"version": 1, "articles": []}', "field articles must be the first of its object"),
        (official([article(1), article(2)]).replace('"year"', "year", 2), "object 1: not JSON"),
    ],
)
def test_a_wrong_file_is_named_with_the_article(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        load(write(tmp_path, text))


def test_a_mistake_early_in_a_large_file_is_named_at_once(tmp_path):
    rows = official(map(article, range(200_000))).replace(
        '"title": "title 1"', '"title" "title 1"', 1
    )
    with pytest.raises(DataError, match="object 2: not JSON: Expecting ':'"):
        load(write(tmp_path, rows))


def test_years_that_are_no_numbers_are_left_out_when_years_are_asked_for(tmp_path):
    rows = [article(1, year="\u00b2"), article(2, year="9" * 5000), article(3, year=2010)]
    assert set(texts(load(write(tmp_path, official(rows)), first_year=2000))) == {"1003"}


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_that_unpacks_in_one_piece_is_refused(tmp_path, method):
    path = str(tmp_path / "allMeSH.zip")
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.json", FORMS["official"])
    with pytest.raises(DataError, match="stored or deflated"):
        load(path)


def test_an_object_without_end_is_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "LARGEST_OBJECT", 10_000)
    monkeypatch.setattr(json_stream, "CHUNK", 1000)
    with pytest.raises(DataError, match="object 1: longer than 10000 characters"):
        load(write(tmp_path, '{"articles":[{"title": "' + "x" * 50_000))


@pytest.mark.parametrize("name", ["a.json.gz", "a.zip"])
def test_a_damaged_archive_gives_one_sentence(tmp_path, name):
    with pytest.raises(DataError, match="cannot be read"):
        load(write(tmp_path, b"PK\x03\x04 not really", name))
    half = gzip.compress(FORMS["official"].encode())[:-40]
    with pytest.raises(DataError, match=r"cannot be read|not JSON"):
        load(write(tmp_path, half, "half.json.gz"))


def test_a_missing_file_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGDOC_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"put pubmed-mesh\.json or allMeSH\*\.json"):
        load(None)
    with pytest.raises(SettingsError, match=r"data\.pubmed\.documents must be above 0"):
        PubmedSettings(documents=0)


PEAK = """
import resource, sys
from longdoc.documents import catalog
from longdoc.documents.catalog import DataSettings
from longdoc.documents.pubmed import PubmedSettings
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
settings = DataSettings(dataset="pubmed-mesh", path=sys.argv[1], pubmed=PubmedSettings(documents=500))
corpus = catalog.load(settings)
assert corpus.notes["articles_in_the_file"] == int(sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_the_file(tmp_path):
    added = []
    for count in (5_000, 60_000):
        path = tmp_path / "allMeSH.json"
        with path.open("w") as stream:
            stream.write('{"articles":[')
            for number in range(count):
                text = article(number, abstractText="word " * 300)
                stream.write(("," if number else "") + json.dumps(text) + "\n")
            stream.write("]}")
        command = [sys.executable, "-c", PEAK, str(path), str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        added.append(int(done.stdout))
    assert path.stat().st_size > 90e6
    assert added[1] < added[0] + 12_000  # kilobytes
