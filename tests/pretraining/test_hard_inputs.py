"""Odd but possible texts, folders and settings of a pretraining."""

import json
import random

import pytest
from transformers import BertConfig, BertForMaskedLM, GPTNeoConfig, GPTNeoForCausalLM

from longdoc.errors import RunError, SettingsError
from longdoc.pretraining import learner, models, run
from longdoc.pretraining.settings import PretrainingSettings, TextSettings
from longdoc.pretraining.texts import hold_out, open_source
from longdoc.settings import build
from longdoc.tokens import tokenizers


def texts(place, number=60, extra=""):
    lines = [json.dumps({"text": f"the court heard case {n} {extra}"}) for n in range(number)]
    place.write_text("\n".join(lines))
    return str(place)


def settings(source, name="mamba-mini", **changes):
    values = {
        "backbone": {"name": name, "pretrained": not name.endswith("mini")},
        "texts": {"sources": [source], "held_out_share": 0.2, "vocabulary": 300},
        "learning": {"step_tokens": 512, "points": 1, "precision": "float32"},
    }
    for key, value in changes.items():
        values[key] = {**values[key], **value}
    return build(PretrainingSettings, values)


def neo(folder, positions=32):
    tokenizer = tokenizers.train(["the court heard a case"], 300)
    config = GPTNeoConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_layers=1, num_heads=2, window_size=8,
        attention_types=[[["global"], 1]], max_position_embeddings=positions,
    )  # fmt: skip
    GPTNeoForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_texts_that_changed_are_not_gone_on_with_and_not_given_out(tmp_path, monkeypatch):
    source = texts(tmp_path / "a.jsonl")
    wanted = settings(source)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(learner, "learn", killed)
        with pytest.raises(KeyboardInterrupt):
            run.execute(wanted, tmp_path / "out")
    texts(tmp_path / "a.jsonl", 70)
    with pytest.raises(RunError, match=r"\.out\.partial is of other texts: .*a\.jsonl changed"):
        run.execute(wanted, tmp_path / "out")
    texts(tmp_path / "a.jsonl")
    made = run.execute(wanted, tmp_path / "out")
    assert run.execute(wanted, tmp_path / "out") == made
    texts(tmp_path / "a.jsonl", 70)
    with pytest.raises(RunError, match=r"out is of other texts"):
        run.execute(wanted, tmp_path / "out")
    (tmp_path / "a.jsonl").unlink()
    assert run.execute(wanted, tmp_path / "out") == made


@pytest.mark.parametrize(
    ("output", "words"),
    [(".", "--output must name a folder that is to be made"), ("mamba-mini", "of the catalogue")],
)
def test_names_under_which_nothing_would_be_found_are_refused(tmp_path, monkeypatch, output, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=words):
        run.execute(settings(texts(tmp_path / "a.jsonl")), output)


def test_pieces_fit_the_positions_of_the_backbone(tmp_path):
    source = texts(tmp_path / "a.jsonl", extra="and gave its reasons at length " * 20)
    name = neo(tmp_path / "neo")
    made = run.execute(settings(source, name), tmp_path / "out")
    assert json.loads((made / "pretraining.json").read_text())["piece_tokens"] == 32
    too_long = settings(source, name, learning={"piece_tokens": 64})
    with pytest.raises(SettingsError, match=r"learning\.piece_tokens must be at most 32"):
        run.execute(too_long, tmp_path / "other")


def test_a_tokenizer_with_more_entries_than_the_folders_makes_a_larger_model(tmp_path):
    larger = tokenizers.train([" ".join(f"word{n}" for n in range(5000))], 400)
    larger.save_pretrained(tmp_path / "tokenizer")
    wanted = settings(
        texts(tmp_path / "a.jsonl"), neo(tmp_path / "neo"),
        backbone={"pretrained": False}, texts={"tokenizer": str(tmp_path / "tokenizer")},
    )  # fmt: skip
    made = run.execute(wanted, tmp_path / "out")
    assert json.loads((made / "config.json").read_text())["vocab_size"] == len(larger)


def test_a_tokenizer_that_is_not_there_is_said(tmp_path):
    wanted = settings(texts(tmp_path / "a.jsonl"), texts={"tokenizer": str(tmp_path / "no")})
    with pytest.raises(SettingsError, match=r"texts\.tokenizer .* is no folder with a tokenizer"):
        run.execute(wanted, tmp_path / "out")


def test_test_documents_of_one_token_have_no_ngrams(tmp_path):
    tokenizer = tokenizers.train(["the court heard a case"], 300)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=64,
    )  # fmt: skip
    BertForMaskedLM(config).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    rows = [{"text": f"the court heard case {n}", "split": "train"} for n in range(20)]
    rows.append({"text": "a", "split": "test"})
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    made = run.execute(settings(str(tmp_path / "a.jsonl"), str(tmp_path / "bert")), tmp_path / "o")
    (found,) = json.loads((made / "pretraining.json").read_text())["measured"].values()
    assert found["unigram"] is None
    assert " - | - |" in (made / "README.md").read_text()


@pytest.mark.parametrize("rate", [1e3, 1e30])
def test_learning_that_diverges_ends_in_a_sentence(tmp_path, rate):
    wanted = settings(
        texts(tmp_path / "a.jsonl", 200), neo(tmp_path / "neo"),
        learning={"learning_rate": rate, "step_tokens": 64, "max_grad_norm": 1e9},
    )  # fmt: skip
    with pytest.raises(RunError, match="try a lower"):
        run.execute(wanted, tmp_path / "out")


def test_a_source_is_named_once():
    with pytest.raises(SettingsError, match=r"texts\.also_measure must be each name once in both"):
        TextSettings(sources=("a",), also_measure=("a",))


def test_no_norm_of_any_family_decays(tmp_path):
    from transformers import TrainingArguments

    from longdoc.training.whole import WholeCheckpointTrainer

    arguments = TrainingArguments(output_dir=str(tmp_path), report_to="none", use_cpu=True)
    for family, model in models.PLAIN.items():
        config = model.config_class(
            vocab_size=50, hidden_size=8, num_hidden_layers=2, num_layers=2, intermediate_size=16,
            **({"attention_types": [[["global"], 2]]} if family == "gpt_neo" else {}),
            **({} if family == "mamba" else {"num_attention_heads": 2, "num_heads": 2}),
        )  # fmt: skip
        made = model(config)
        trainer = WholeCheckpointTrainer(model=made, args=arguments)
        decayed = set(trainer.get_decay_parameter_names(made))
        parts = dict(made.named_parameters())
        assert all(parts[name].ndim > 1 for name in decayed & set(parts)), family
        assert {n for n, p in parts.items() if p.ndim > 1 and "A_log" not in n} <= decayed, family


def test_standard_clauses_do_not_make_a_document_a_copy(tmp_path):
    generator = random.Random(0)
    clauses = [f"Clause {n}: " + f"the parties agree on matter {n}. " * 10 for n in range(40)]
    (tmp_path / "texts").mkdir()
    for number in range(300):
        own = f"Contract {number} of its own words {number}. " * 3
        chosen = generator.sample(clauses, 6)
        (tmp_path / "texts" / f"{number}.txt").write_text("\n".join([own, *chosen]))
    source = open_source(str(tmp_path / "texts"), TextSettings())
    splits = [text.split for text in source]
    assert splits.count("train") > 250


def test_a_text_that_two_sources_hold_out_says_no_more_than_once(tmp_path):
    draw = random.Random(0)
    clause = [" ".join(f"{draw.random():.3f}" for _ in range(60)) for _ in range(30)]

    def contract(number):
        own = " ".join(f"{number}.{draw.random():.3f}" for _ in range(150))  # more than half of it
        return "\n".join([own, *draw.sample(clause, 3)])

    first = [contract(number) for number in range(200)]
    for name, part in (("a", first), ("b", first[::2])):
        lines = [json.dumps({"paragraphs": text.split("\n")}) for text in part]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    kept_aside = TextSettings(held_out_share=0.15)
    sources = [open_source(str(tmp_path / f"{name}.jsonl"), kept_aside) for name in ("a", "a", "b")]
    hold_out(sources[:1])
    alone = sum(text.split == "train" for text in sources[0])
    assert sources[0].left_out == 0
    hold_out(sources[1:])
    assert sum(text.split == "train" for text in sources[1]) == alone
    assert sources[1].left_out == 0


@pytest.mark.parametrize("name", ["valid", "validation", "val", "test"])
def test_a_held_out_file_that_is_read_after_training_counts_the_same(tmp_path, name):
    rows = [json.dumps({"text": f"letter {n} to the court"}) for n in range(40)]
    (tmp_path / "train.jsonl").write_text("\n".join(rows))
    (tmp_path / f"{name}.jsonl").write_text("\n".join(rows[30:]))
    source = open_source(str(tmp_path), TextSettings())
    found = [text.split for text in source]
    assert found.count("train") == 30
    assert len(found) == 40
    assert source.left_out == 10
