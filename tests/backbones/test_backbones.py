"""Every backbone: against transformers, alone as in a batch, saved as loaded."""

import socket

import pytest
import torch
from huggingface_hub import constants
from transformers import (
    AutoModelForSequenceClassification,
    GPTNeoModel,
    MambaConfig,
    MambaForCausalLM,
    MambaModel,
)

from longdoc.backbones import MambaForSequenceClassification, hub
from longdoc.backbones.build import CLASSIFIERS, BackboneSettings, build, resolve
from longdoc.backbones.catalog import BACKBONES
from longdoc.backbones.classification import GPTNeoForSequenceClassification
from longdoc.backbones.mamba import use_modular_mixers
from longdoc.backbones.positions import extend_positions
from longdoc.errors import MissingPartError, SettingsError
from longdoc.tokens import tokenizers
from tests import tolerances
from tests.assertions import assert_close

MINIS = ("mamba-mini", "gpt-neo-mini", "bert-mini")


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizers.train(["a small tokenizer of a few hundred entries"], 300)


def made(name, tokenizer, kind="multi-label", labels=("a", "b", "c"), max_tokens=64, seed=0):
    settings = BackboneSettings(name=name, pretrained=name not in BACKBONES)
    return build(
        settings, tokenizer, labels=labels, kind=kind, max_tokens=max_tokens, seed=seed
    ).model.eval()


def batch(seed=0, lengths=(9, 20)):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 290, (len(lengths), max(lengths)), generator=generator)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        mask[row, :length] = 1
    return {"input_ids": ids, "attention_mask": mask}


def test_the_minis_match_in_size():
    class Full:
        pad_token_id = 0

        def __len__(self):
            return 8192

    sizes = [
        sum(p.numel() for p in made(name, Full(), labels=[str(i) for i in range(100)]).parameters())
        for name in MINIS
    ]
    assert max(sizes) / min(sizes) < 1.1
    assert all(2e6 < size < 5e6 for size in sizes)


@pytest.mark.parametrize("name", MINIS)
def test_a_document_alone_equals_it_in_a_batch_with_padding(name, tokenizer):
    model, both = made(name, tokenizer), batch()
    with torch.no_grad():
        together = model(**both).logits
        alone = model(
            input_ids=both["input_ids"][:1, :9], attention_mask=both["attention_mask"][:1, :9]
        )
    assert_close(together[:1], alone.logits, tolerances.MODEL_FLOAT32)


@pytest.mark.parametrize("name", ["mamba-mini", "gpt-neo-mini"])
def test_what_stands_in_the_padding_changes_nothing_even_end_of_text(name, tokenizer):
    model, both = made(name, tokenizer), batch()
    with torch.no_grad():
        first = model(**both).logits
        both["input_ids"][0, 9:] = tokenizer.eos_token_id
        assert_close(model(**both).logits, first, tolerances.MODEL_FLOAT32)


@pytest.mark.parametrize("name", MINIS)
def test_saved_and_loaded_it_gives_the_same(name, tokenizer, tmp_path):
    model = made(name, tokenizer)
    model.save_pretrained(tmp_path)
    again = CLASSIFIERS[BACKBONES[name].family].from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(model(**batch()).logits, again(**batch()).logits)


@pytest.mark.parametrize("name", MINIS)
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(name, tokenizer):
    first, again, other = (made(name, tokenizer, seed=seed) for seed in (1, 1, 2))
    with torch.no_grad():
        logits = [model(**batch()).logits for model in (first, again, other)]
    assert torch.equal(logits[0], logits[1])
    assert not torch.allclose(logits[0], logits[2])


def tiny_config(**changes):
    return MambaConfig(vocab_size=300, hidden_size=24, num_hidden_layers=3, state_size=7, **changes)


@pytest.fixture(params=[{}, {"use_bias": True}, {"use_conv_bias": False}, {"conv_kernel": 3}])
def pair(request):
    torch.manual_seed(0)
    theirs = MambaModel(tiny_config(**request.param)).eval()
    ours = MambaModel(tiny_config(**request.param)).eval()
    ours.load_state_dict(theirs.state_dict())
    return theirs, use_modular_mixers(ours)


def test_mamba_equals_transformers(pair):
    theirs, ours = pair
    both = batch()
    with torch.no_grad():
        wanted = theirs(**both, use_cache=False).last_hidden_state
        found = ours(**both, use_cache=False).last_hidden_state
    real = both["attention_mask"].bool()
    assert_close(found[real], wanted[real], tolerances.MODEL_FLOAT32)


def test_mamba_with_left_padding_equals_transformers_and_no_padding(pair):
    theirs, ours = pair
    ids = batch(lengths=(9,))["input_ids"]
    padded = torch.cat([torch.full((1, 5), 3), ids], dim=1)
    mask = torch.cat([torch.zeros(1, 5, dtype=torch.long), torch.ones_like(ids)], dim=1)
    with torch.no_grad():
        plain = ours(ids, use_cache=False).last_hidden_state
        left = ours(padded, attention_mask=mask, use_cache=False).last_hidden_state[:, 5:]
        wanted = theirs(ids, use_cache=False).last_hidden_state
    assert_close(left, plain, tolerances.MODEL_FLOAT32)
    assert_close(plain, wanted, tolerances.MODEL_FLOAT32)


@pytest.mark.parametrize("cut", [1, 2, 3, 10, 19])
def test_mamba_cut_anywhere_and_continued_gives_the_same(pair, cut):
    _, ours = pair
    ids = batch(lengths=(20,))["input_ids"]
    with torch.no_grad():
        whole = ours(ids, use_cache=False).last_hidden_state
        first = ours(ids[:, :cut], use_cache=True)
        second = ours(ids[:, cut:], cache_params=first.cache_params, use_cache=True)
    found = torch.cat([first.last_hidden_state, second.last_hidden_state], dim=1)
    assert_close(found, whole, tolerances.MODEL_FLOAT32)


def test_mamba_gradients_equal_transformers():
    torch.manual_seed(0)
    theirs, ours = MambaModel(tiny_config()), MambaModel(tiny_config())
    ours.load_state_dict(theirs.state_dict())
    use_modular_mixers(ours)
    for model in (theirs, ours):
        model(**batch(), use_cache=False).last_hidden_state[0].square().sum().backward()
    for (name, wanted), found in zip(theirs.named_parameters(), ours.parameters(), strict=True):
        assert_close(found.grad, wanted.grad, 1e-4, name)


def test_transformers_knows_mamba_as_a_classifier(tmp_path):
    causal = MambaForCausalLM(tiny_config())
    causal.save_pretrained(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=5)
    assert type(model) is MambaForSequenceClassification
    assert_close(model.backbone.embeddings.weight, causal.backbone.embeddings.weight, 0.0)
    assert model(**batch()).logits.shape == (2, 5)


@pytest.mark.parametrize(
    ("problem", "labels"),
    [
        ("regression", torch.tensor([0.5, 1.5])),
        ("single_label_classification", torch.tensor([0, 2])),
        ("multi_label_classification", torch.tensor([[1.0, 0, 1], [0, 0, 1]])),
    ],
)
def test_mamba_has_the_three_kinds_of_loss(problem, labels):
    count = 1 if problem == "regression" else 3
    config = tiny_config(num_labels=count, problem_type=problem)
    model = MambaForSequenceClassification(config)
    model(**batch(), labels=labels).loss.backward()
    assert model.score.weight.grad.abs().sum() > 0


def test_mamba_takes_embeddings_and_gives_hidden_states():
    model = MambaForSequenceClassification(tiny_config(num_labels=2)).eval()
    both = batch()
    embedded = model.get_input_embeddings()(both["input_ids"])
    with torch.no_grad():
        plain = model(**both, output_hidden_states=True)
        other = model(inputs_embeds=embedded, attention_mask=both["attention_mask"])
        as_tuple = model(**both, return_dict=False)
    assert_close(other.logits, plain.logits, tolerances.MODEL_FLOAT32)
    assert torch.equal(as_tuple[0], plain.logits)
    assert len(plain.hidden_states) == 4


@pytest.mark.parametrize("name", MINIS)
def test_gradient_checkpointing_changes_no_gradient(name, tokenizer):
    grads = []
    for checkpointing in (False, True):
        model = made(name, tokenizer).train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model(**batch()).logits.square().sum().backward()
        grads.append([p.grad for p in model.parameters() if p.grad is not None])
    for plain, again in zip(*grads, strict=True):
        assert_close(again, plain, tolerances.MODEL_FLOAT32)


def test_gpt_neo_equals_transformers(tokenizer):
    model = made("gpt-neo-mini", tokenizer)
    theirs = GPTNeoModel(model.config).eval()
    theirs.load_state_dict(model.transformer.state_dict())
    with torch.no_grad():
        wanted = theirs(**batch()).last_hidden_state
        found = model.transformer(**batch()).last_hidden_state
    assert_close(found, wanted, tolerances.MODEL_FLOAT32)


@pytest.mark.parametrize("name", ["gpt-neo-mini", "bert-mini"])
def test_extended_positions_repeat_and_leave_short_documents_as_they_were(name, tokenizer):
    model = made(name, tokenizer)
    before = model.config.max_position_embeddings
    with torch.no_grad():
        short = model(**batch()).logits
        assert extend_positions(model, before + 40) == before
        assert_close(model(**batch()).logits, short, tolerances.MODEL_FLOAT32)
        long = batch(lengths=(before + 30,))
        assert torch.isfinite(model(**long).logits).all()
    assert extend_positions(model, before) is None


def test_extended_gpt_neo_saves_and_loads(tokenizer, tmp_path):
    model = made("gpt-neo-mini", tokenizer, max_tokens=2100)
    model.save_pretrained(tmp_path)
    again = GPTNeoForSequenceClassification.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(again(**batch()).logits, model(**batch()).logits)


def test_a_binary_task_has_one_logit(tokenizer):
    model = made("mamba-mini", tokenizer, kind="binary", labels=("no", "yes"))
    assert model.config.id2label == {0: "yes"}
    assert model(**batch()).logits.shape == (2, 1)


def test_an_unknown_backbone_names_the_nearest():
    with pytest.raises(SettingsError, match="did you mean mamba-mini"):
        resolve(BackboneSettings(name="mamba-miny"))


def test_a_checkpoint_without_a_hub_says_what_to_do(tokenizer, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        MissingPartError, match=r"state-spaces/mamba-130m-hf is neither in the local cache"
    ):
        made("mamba-130m", tokenizer)


def test_a_local_folder_of_another_family_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(SettingsError, match="is of the family 't5'; allowed: mamba, gpt_neo"):
        resolve(BackboneSettings(name=str(tmp_path)))


def test_a_local_checkpoint_is_loaded_with_its_weights(tokenizer, tmp_path):
    MambaForCausalLM(tiny_config()).save_pretrained(tmp_path)
    model = made(str(tmp_path), tokenizer)
    wanted = MambaForCausalLM.from_pretrained(tmp_path).backbone.layers[0].mixer.in_proj.weight
    assert_close(model.backbone.layers[0].mixer.in_proj.weight, wanted, 0.0)


def test_a_slip_of_the_pen_is_refused_without_asking_a_hub(monkeypatch):
    monkeypatch.setattr("longdoc.backbones.build.AutoConfig", None)
    with pytest.raises(SettingsError, match="did you mean mamba-mini"):
        resolve(BackboneSettings(name="mamba-mimi"))


def closed_port():
    with socket.socket() as stream:
        stream.bind(("127.0.0.1", 0))
        return stream.getsockname()[1]


def test_a_cached_checkpoint_is_read_at_once_where_no_hub_answers(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with hub.asked_only_if_reachable("someone/their-mamba"):
        assert constants.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE
    with hub.asked_only_if_reachable(str(tmp_path)):
        assert not constants.HF_HUB_OFFLINE
    asked = []

    def notes(url, **_):
        asked.append(url)
        raise OSError

    monkeypatch.setattr("huggingface_hub.file_download.get_hf_file_metadata", notes)
    place = tmp_path / "models--someone--their-mamba"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("a" * 40)
    tiny_config().save_pretrained(place / "snapshots" / ("a" * 40))
    assert resolve(BackboneSettings(name="someone/their-mamba")).family == "mamba"
    with pytest.raises(SettingsError, match="cannot be had from the hub"):
        resolve(BackboneSettings(name="someone/other-mamba"))
    assert not asked


def test_a_hub_that_answers_or_is_behind_a_proxy_is_asked(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert hub.is_reachable()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{closed_port()}")
    assert not hub.is_reachable()
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert hub.is_reachable()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert not hub.is_reachable()
