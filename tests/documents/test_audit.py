"""What an audit finds, on planted cases and on the real sets."""

import json
import random

import pytest

from longdoc.documents import audit, catalog, eurlex57k, near_copies
from longdoc.documents.catalog import DataSettings
from longdoc.documents.document import Document, make_corpus
from longdoc.report import audits
from tests.conftest import run_command, write_jsonl


def text(seed, words=60):
    generator = random.Random(seed)
    return " ".join(f"w{generator.randrange(400)}" for _ in range(words))


def corpus(train, test=(), validation=(), **more):
    def documents(split, rows):
        return [Document(f"{split}{n}", (row[0],), tuple(row[1:])) for n, row in enumerate(rows)]

    splits = {"train": train, "validation": validation, "test": test}
    made = {split: documents(split, rows) for split, rows in splits.items()}
    return make_corpus("made", "own", "multi-label", made, **more)


def test_copies_within_and_across_splits_are_counted():
    found = audit.audit(
        corpus(
            train=[(text(1), "a"), (text(1), "b"), (text(2), "a"), (text(3), "a")],
            test=[(text(2), "a"), (text(4), "a")],
        )
    )
    assert (found.exact.groups, found.exact.copies) == (2, 2)
    assert found.exact.within == {"train": 1}
    assert found.exact.across == {"train & test": 1}
    assert found.exact.repeated == {"test": 1}
    assert found.exact.different_labels == 1
    assert found.exact.examples[0] == ["train2", "test0"]


def test_blanks_do_not_make_another_text_and_headings_do_not_count():
    body = text(5)
    documents = {
        "train": [
            Document("a", ("Regulation 1", body), ("x",), heading=1),
            Document("b", ("Regulation 2", body.replace(" ", "  \n")), ("x",), heading=1),
            Document("c", ("Regulation 2", text(6)), ("x",), heading=1),
        ]
    }
    found = audit.audit(make_corpus("made", "own", "multi-label", documents))
    assert (found.exact.groups, found.exact.copies) == (1, 1)


def test_a_near_copy_is_no_exact_one():
    words = text(7, 400).split()
    changed = " ".join([*words[:390], "other", *words[391:]])
    found = audit.audit(
        corpus(train=[(" ".join(words), "a"), (text(8), "a")], test=[(changed, "a")])
    )
    assert found.exact.groups == 0
    assert found.near.repeated == {"test": 1}
    assert "1 of 1 test documents have a copy or near copy in training" in audits.summary(found)


@pytest.mark.parametrize("share", [0.5, 0.7, 0.79, 0.81, 0.9])
def test_groups_are_decided_by_the_exact_resemblance(share):
    words = [f"w{n}" for n in range(2000)]
    cut = round(len(words) * 2 * share / (1 + share))
    other = [*words[:cut], *(f"v{n}" for n in range(len(words) - cut))]
    texts = [" ".join(words), " ".join(other)]
    exact = near_copies.jaccard(*map(near_copies.shingles, texts))
    assert abs(exact - share) < 0.01
    assert (near_copies.groups(texts) == [[0, 1]]) == (exact >= 0.8)


def test_the_estimate_is_close_to_the_resemblance():
    words = [f"w{n}" for n in range(3000)]
    first, second = (near_copies.shingles(" ".join(w)) for w in (words, words[1000:]))
    estimate = (near_copies.signature(first) == near_copies.signature(second)).mean()
    assert abs(float(estimate) - near_copies.jaccard(first, second)) < 0.14  # 3 standard errors


def test_many_alike_texts_are_one_group_and_the_order_of_texts_does_not_matter():
    words = [f"w{n}" for n in range(300)]
    texts = [" ".join([*words, f"x{n}"]) for n in range(200)] + [text(9), text(10)]
    assert near_copies.groups(texts) == [list(range(200))]
    turned = near_copies.groups(texts[::-1])
    assert turned == [list(range(2, 202))]


@pytest.mark.parametrize("seed", range(3))
def test_a_chain_of_near_copies_is_one_group_in_whatever_order_its_texts_meet(seed):
    draw = random.Random(seed)
    texts = [[f"w{n}" for n in range(200)]]
    while len(texts) < 150:
        changed = list(draw.choice(texts[-4:]))
        for place in draw.sample(range(200), 3):  # 0.86 alike: the next but one is no near copy
            changed[place] = f"{place} in {len(texts)}"
        texts.append(changed)
    draw.shuffle(texts)
    assert near_copies.groups(map(" ".join, texts)) == [list(range(150))]


def test_leaks_damage_empty_and_unlabelled_documents_are_found():
    rows = [
        ("There has been a violation of Article 6. " + text(11), "a"),
        ("In view of the alleged violation of Article 8 " + text(12), "a"),
        ("Caf\u00c3\u00a9 and \u00e2\u20ac\u2122s " + text(13), "a"),
        ("Caf\ufffd " + text(14),),
        ("a\x02b &amp; " + text(15), "a"),
        (" ", "a"),
    ]
    found = audit.audit(corpus(train=rows, test=[(text(16), "a", "new")]))
    counted = {name: f.documents for name, f in {**found.leaks, **found.damage}.items()}
    assert counted == {
        "outcome": {"train": 1},
        "allegation": {"train": 1},
        "reported": {},
        "replacement character": {"train": 1},
        "UTF-8 read as Latin-1 or Windows-1252": {"train": 1},
        "control character": {"train": 1},
        "HTML entity or tag": {"train": 1},
    }
    assert found.damage["replacement character"].examples == ["train3"]
    assert found.unlabelled.documents == {"train": 1}
    assert found.empty.documents == {"train": 1}
    assert found.unseen == 1


@pytest.mark.parametrize("sign", ["&prime;", "&eacute;", "&#x27;", "&#8217;", "<table>", "</h2>"])
def test_every_entity_and_tag_is_damage(sign):
    found = audit.audit(corpus(train=[(f"a {sign} b {text(1)}", "a")]))
    assert found.damage["HTML entity or tag"].documents == {"train": 1}


@pytest.mark.parametrize("sign", ["R&D;", "Marks&Spencer;", "x<b and c>d", "&; &#;"])
def test_an_ampersand_is_no_damage(sign):
    found = audit.audit(corpus(train=[(f"a {sign} b {text(1)}", "a")]))
    assert not found.damage["HTML entity or tag"].documents


def test_clean_text_in_other_languages_is_not_damaged():
    clean = "Âge, Château, Ã la carte? São João, naïve “quoted” … €5 ½ • Łódź"
    found = audit.audit(corpus(train=[(clean, "a"), (text(1), "b")]))
    assert not any(finding.documents for finding in found.damage.values())


def test_names_of_labels_in_the_text_are_counted_against_other_documents():
    rows = [(f"the public procurement case {text(n)}", "q1") for n in range(4)]
    rows += [(text(n + 50), "q1") for n in range(4)]
    rows += [(text(n + 90), "q2") for n in range(7)] + [(f"public procurement {text(80)}", "q2")]
    names = {"q1": "public procurement", "q2": "state aid"}
    named = audit.audit(corpus(train=rows, label_names=names)).named
    assert named["own"] == 4 / 16
    assert named["others"] == 1 / 16
    assert named["examples"]["q1"] == {
        "name": "public procurement", "named": 4, "borne": 8, "named without": 1,
    }  # fmt: skip


def test_one_document_whose_label_stands_in_it_is_audited():
    found = audit.audit(corpus(train=[("hello sports world", "sports")]))
    assert (found.named["own"], found.named["others"]) == (1.0, None)
    assert "no others" in audits.markdown(found, "command", None)


def test_labels_of_the_same_letters_are_both_named():
    found = audit.audit(corpus(train=[("a sport", "Sport"), ("a sport", "sport"), ("b", "x")]))
    assert found.named["own"] == 1.0


def test_short_texts_and_texts_without_blanks_are_no_copies_of_one_another():
    texts = ["今天天气很好", "完全不同的一篇文章", "xyz", "", "abc", "今天天气很好吗"]
    assert near_copies.groups(texts) == []
    long = "我们都知道今天的天气非常好所以大家都想出去走一走看一看" * 3
    assert near_copies.groups([long, "别的", long + "了"]) == [[0, 2]]


def test_documents_that_are_only_a_heading_are_told_apart():
    documents = [Document(str(n), (f"title {n}",), ("a",), heading=1) for n in range(5)]
    found = audit.audit(make_corpus("made", "own", "multi-label", {"train": documents}))
    assert found.exact.copies == 0


def test_a_length_far_from_the_others_is_named():
    rows = [(text(n, 90 + n), "a") for n in range(40)] + [(text(99, 5000), "a"), (text(98, 2), "a")]
    found = audit.audit(corpus(train=rows))
    assert found.far_out["long"].examples == ["train40"]
    assert found.far_out["short"].examples == ["train41"]


def test_the_command_writes_a_page_and_json_for_own_documents(tmp_path):
    rows = [{"id": n, "text": text(n % 6), "labels": ["<b>", "c|d"][n % 2]} for n in range(12)]
    file = write_jsonl(tmp_path / "own.jsonl", rows)
    done = run_command("datasets", "audit", str(file), "--output", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    values = json.loads((tmp_path / "out" / "audit.json").read_text(encoding="utf-8"))
    assert values["exact"]["copies"] == 6
    page = (tmp_path / "out" / "audit.html").read_text(encoding="utf-8")
    assert "There is one split only" in page
    assert "6 documents are copies or near copies of another" in page
    assert "<b>" not in page.split("<main>")[1]
    assert "http" not in page.replace("http-equiv", "")
    shown = run_command("datasets", "audit", str(file), "--format", "markdown")
    assert "| documents beyond the first of each | 6 | 6 |" in shown.stdout


@pytest.mark.golden
@pytest.mark.slow
def test_echr_has_the_copies_and_leaks_that_are_known(real_data):
    settings = DataSettings(dataset="echr-acl2019", task="violated-articles", leaks="keep")
    found = audit.audit(catalog.load(settings))
    assert found.exact.copies == 126
    assert found.exact.across == {"train & validation": 2}
    assert {name: sum(f.documents.values()) for name, f in found.leaks.items()} == {
        "outcome": 19, "allegation": 42, "reported": 128,
    }  # fmt: skip
    assert found.dates == {
        "train": ("1960", "2013"), "validation": ("1967", "2013"), "test": ("2014", "2018"),
    }  # fmt: skip
    assert found.words["train"]["longest"] == 34773
    assert found.words["test"]["longest"] == 51334


@pytest.mark.golden
@pytest.mark.slow
def test_eurlex_has_the_copies_that_are_known(real_data, monkeypatch, tmp_path):
    found = audit.audit(catalog.load(DataSettings(dataset="eurlex57k")))
    assert found.exact.copies == 18
    assert found.exact.across["train & test"] == 3
    # Its keepers counted bodies without attachments.
    monkeypatch.setenv("LONGDOC_CACHE", str(tmp_path))
    monkeypatch.setattr(eurlex57k, "BODY_FIELDS", ("recitals", "main_body"))
    laws = catalog.load(DataSettings(dataset="eurlex57k"))
    bodies = {
        split: [" ".join(" ".join(d.paragraphs[d.heading :]).split()) for d in part]
        for split, part in laws.splits.items()
    }
    every = [body for part in bodies.values() for body in part]
    assert len(every) - len(set(every)) == 1758
    assert len(set(bodies["train"]) & set(bodies["test"])) == 66
