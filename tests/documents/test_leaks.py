"""Sentences that state an outcome are masked or dropped, and nothing else changes."""

import json

import pytest

from longdoc.documents import echr_acl2019, leaks

LEAK = "There has been a violation of Article 6 para. 1 (art. 6-1) of the Convention."


@pytest.mark.parametrize(
    ("text", "masked", "dropped"),
    [
        (LEAK, "[MASKED]", None),
        (f"32. {LEAK}", "32. [MASKED]", "32."),
        (f"He lost. {LEAK} He went on.", "He lost. [MASKED] He went on.", "He lost. He went on."),
        (f"He lost. {LEAK}", "He lost. [MASKED]", "He lost."),
        ("THERE HAS BEEN NO\nVIOLATION  OF ARTICLE 8!", "[MASKED]", None),
        ("As to the alleged violation of Articles 5 and 6, it held so.", "[MASKED]", None),
        ("It held that there had been no violation of Article 3.", "[MASKED]", None),
        ("There has been a violation of the law.", None, None),
        ("There has been an article 6 hearing.", None, None),
        ("", None, None),
    ],
)
def test_only_the_sentence_that_leaks_changes(text, masked, dropped):
    whole = ["Before.", text, "After."]
    changed = masked is not None
    assert leaks.without(whole, "keep") == tuple(whole)
    assert leaks.without(whole, "mask") == ("Before.", masked if changed else text, "After.")
    left = [dropped] if dropped else []
    assert leaks.without(whole, "drop") == (
        ("Before.", *left, "After.") if changed else tuple(whole)
    )


def test_what_is_masked_is_found_no_more():
    text = f"He lost. {LEAK} Also, {LEAK} And the alleged violation of Article 3?"
    assert leaks.found(text) == {"outcome": 2, "allegation": 1}
    for handling in ("mask", "drop"):
        assert not leaks.found("\n".join(leaks.without([text], handling)))


@pytest.mark.parametrize(("handling", "left"), [("mask", "[MASKED]"), ("keep", LEAK), ("drop", "")])
def test_echr_masks_drops_or_keeps_and_says_how_many(tmp_path, handling, left):
    record = {
        "TEXT": ["He appealed.", LEAK], "VIOLATED_ARTICLES": ["6"], "NON_VIOLATED_ARTICLES": [],
        "DATE": 2008, "RESPONDENT": "TUR",
    }  # fmt: skip
    (tmp_path / "EN_train").mkdir()
    for number, text in enumerate((record["TEXT"], ["Nothing of the kind."])):
        content = json.dumps({**record, "ITEMID": str(number), "TEXT": text})
        (tmp_path / "EN_train" / f"{number}.json").write_text(content, encoding="utf-8")
    corpus = echr_acl2019.load("violated-articles", str(tmp_path), handling=handling)
    first = corpus.splits["train"][0]
    assert first.paragraphs == ("He appealed.", *([left] if left else []))
    assert first.about == {"date": "2008", "country": "TUR"}
    assert corpus.notes["leaks"] == {
        "handling": handling, "documents": {"outcome": {"train": 1}, "allegation": {}, "reported": {}},
    }  # fmt: skip
