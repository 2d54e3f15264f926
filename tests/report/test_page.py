"""The page: every number from a metrics file, nothing from outside, nothing unescaped."""

import json
import re
import shutil
from html.parser import HTMLParser

import pytest
from markupsafe import escape

from longdoc.documents import files
from longdoc.documents.document import Document, make_corpus
from longdoc.experiments import compare, run, store
from longdoc.experiments.settings import Settings
from longdoc.report import html, page
from longdoc.report.sections import SECTIONS, frequency
from longdoc.settings import build
from tests.conftest import ROOT

EVIL = "<script>alert('x')</script>&\"quoted\""
TINY = {"backbone": {"pretrained": False},
        "tokens": {"max_tokens": 32, "vocabulary": 400},
        "training": {"epochs": 1, "batch_size": 8, "precision": "float32"}}  # fmt: skip


def evil_letters():
    """The example letters with a label and texts that want to be markup."""
    letters = files.load(ROOT / "examples" / "letters.jsonl")
    splits = {
        name: [
            Document(
                d.id, (f"{EVIL} {d.text}",), tuple(EVIL if x == "noise" else x for x in d.labels)
            )
            for d in part
        ]
        for name, part in letters.splits.items()
    }
    return make_corpus("letters <i>own</i>", "own", "multi-label", splits)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    corpus = evil_letters()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LONGDOC_CACHE", str(root / "cache"))
        runs = []
        for seed in (0, 1):
            given = {**TINY, "training": {**TINY["training"], "seed": seed}}
            runs.append(
                store.load(
                    run.execute(build(Settings, given), root, name=f"mamba {EVIL}", corpus=corpus)
                )
            )
        for name in ("tfidf-svm", "majority"):
            given = {**TINY, "baseline": {"name": name}}
            runs.append(store.load(run.execute(build(Settings, given), root, corpus=corpus)))
    return compare.from_runs(
        runs, failures={"gpt <b>(seed 0)": "ran out of memory"}, command="longdoc x"
    )


@pytest.fixture(scope="module")
def text(comparison):
    return page.render(comparison)


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.addresses, self.text, self.open = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href") and v]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text.append(data)


def read(text):
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


def test_it_loads_nothing_from_outside_and_runs_nothing(text):
    found = read(text)
    assert "script" not in found.tags
    assert not {"link", "iframe", "object", "embed"} & set(found.tags)
    assert all(a.startswith(("data:image/svg+xml;base64,", "#")) for a in found.addresses)
    assert "default-src 'none'" in text


def test_labels_names_and_data_sets_are_escaped(text):
    assert EVIL not in text
    assert "letters <i>own</i>" not in text
    shown = "".join(read(text).text)
    assert EVIL in shown
    assert "letters <i>own</i>" in shown


def test_every_section_is_there_with_its_question(text, comparison):
    shown = "".join(read(text).text)
    for section in SECTIONS:
        assert section.TITLE in shown
        assert section.QUESTION in shown
        assert section.render(comparison) is not None


def test_what_did_not_run_is_a_row(text):
    assert "not run: ran out of memory" in text


def test_every_score_on_the_page_is_in_a_metrics_file(text, comparison):
    """Each decimal of the score tables is a metric, or a mean, spread or interval of such."""
    known = set()
    for system in comparison.systems:
        for metric in ("micro-f1", "macro-f1"):
            for mode in ("fixed", "global", "per-label"):
                files_ = [
                    json.loads((r.folder / "metrics.json").read_text())["splits"]["test"][mode][
                        metric
                    ]
                    for r in system.runs
                ]
                known |= {f"{value:.3f}" for value in files_}
                known.add(f"{sum(files_) / len(files_):.3f}")
                if len(files_) > 1:
                    known.add(f"{system.spread(metric, mode):.3f}")
            known |= {f"{end:.3f}" for end in system.intervals[metric]}
    section = text[text.index('id="scores"') : text.index("Further metrics")]
    cells = re.findall(r'<td class="number">([^<]+)</td>', section)
    shown = {number for cell in cells for number in re.findall(r"\d\.\d{3}", cell)}
    assert len(shown) > 8
    assert shown <= known


def test_the_same_comparison_gives_the_same_page(text, comparison):
    assert page.render(comparison) == text


def test_a_table_without_rows_is_refused():
    with pytest.raises(ValueError, match="a table of A, B has no rows"):
        html.table(["A", "B"], [])


def test_the_page_is_whole_or_not_there(comparison, tmp_path, monkeypatch):
    file = page.write(comparison, tmp_path / "deep" / "r.html")
    assert [f.name for f in file.parent.iterdir()] == ["r.html"]


@pytest.mark.slow
@pytest.mark.parametrize("width", [380, 1200])
def test_a_real_browser_shows_it_without_errors_or_sideways_scrolling(comparison, tmp_path, width):
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    file = page.write(comparison, tmp_path / "r.html")
    with sync_playwright() as driver:
        opened = driver.chromium.launch(
            executable_path=browser, args=["--no-sandbox", "--disable-gpu"]
        )
        tab = opened.new_page(viewport={"width": width, "height": 900})
        troubles, asked = [], []
        tab.on("console", lambda message: troubles.append(message.text))
        tab.on("pageerror", lambda error: troubles.append(str(error)))
        tab.on("dialog", lambda dialog: troubles.append("dialog"))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(file.as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert tab.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 100)")
        assert tab.locator("section").count() == len(SECTIONS)
        tab.locator("#every-label summary").click()
        assert EVIL in tab.locator("#every-label").inner_text()
        printed = tab.pdf()
        opened.close()
    assert troubles == []
    assert all(url.startswith(("file:", "data:")) for url in asked)
    assert len(printed) > 20_000


def test_the_page_says_what_a_sampler_made_of_each_label(comparison, tmp_path):
    given = {**TINY, "imbalance": {"sampler": "oversampling"}}
    made = store.load(run.execute(build(Settings, given), tmp_path, corpus=evil_letters()))
    shown = str(frequency.sampled(compare.from_runs([made])))
    known = made.environment["notes"]["imbalance"]["label_documents"]
    assert EVIL not in shown
    assert shown.count("<tr>") == 1 + len(made.data["labels"])
    for label, *counts in zip(made.data["labels"], known["before"], known["after"], strict=True):
        row = re.search(rf"<tr>.{{0,40}}{re.escape(str(escape(label)))}</t.*?</tr>", shown, re.S)
        assert [int(number) for number in re.findall(r">(\d+)<", row[0])] == counts
    assert frequency.sampled(comparison) == ""
