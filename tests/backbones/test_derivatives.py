"""Whole classifiers seen by torch's own tools: torch.func, compilers, counters, other devices."""

import copy
from contextlib import nullcontext

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig

from longdoc.adapters.lora import add_lora
from longdoc.backbones.bert import BertForSequenceClassification
from longdoc.backbones.classification import GPTNeoForSequenceClassification
from tests import tolerances
from tests.assertions import assert_close
from tests.backbones import tiny


def bert():
    torch.manual_seed(0)
    return BertConfig(
        vocab_size=99, hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
        intermediate_size=40, num_labels=3, attention_probs_dropout_prob=0.0,
        hidden_dropout_prob=0.0,
    )  # fmt: skip


CASES = [
    pytest.param(classifier, config, adapted, id=f"{classifier.__name__}-{adapted}")
    for classifier, config in (*tiny.CLASSIFIERS, (BertForSequenceClassification, bert))
    for adapted in (False, True)
]


def built(classifier, config, adapted, dropout=0.0):
    torch.manual_seed(1)
    model = classifier(config())
    if adapted:
        add_lora(model, rank=2, dropout=dropout)
        for name, part in model.named_parameters():
            if "lora_B" in name:  # zeros otherwise
                torch.nn.init.normal_(part, std=0.1)
    return model.train()


def parted(model):
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


@pytest.fixture(autouse=True)
def _forgotten():
    """Forget graphs of other models, of which torch keeps eight."""
    yield
    torch.compiler.reset()


def learnt(model):
    return {name: part for name, part in model.named_parameters() if part.requires_grad}


def twice(model, inputs):
    """Give the gradients, and those of a penalty on them."""
    parts = list(learnt(model).values())
    first = torch.autograd.grad(model(**inputs).logits.tanh().sum(), parts, create_graph=True)
    penalty = sum(part.sum() + part.square().sum() for part in first)
    return *first, *torch.autograd.grad(penalty, parts)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize(("classifier", "config", "adapted"), CASES)
def test_a_penalty_on_gradients_is_that_of_torchs_own_operations(
    classifier, config, adapted, checkpointed
):
    model = built(classifier, config, adapted)
    if checkpointed:
        parted(model)
    # In float64 no kernel serves.
    wanted = twice(copy.deepcopy(model).double(), tiny.padded())
    for found, other in zip(twice(model, tiny.padded()), wanted, strict=True):
        assert_close(found.detach().double(), other.detach(), tolerances.SCAN_FLOAT32)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("classifier", "config", "adapted"), CASES)
def test_a_classifier_goes_through_torch_func(classifier, config, adapted, training):
    model, inputs = built(classifier, config, adapted).train(training), tiny.padded()
    parts = {name: part.detach() for name, part in learnt(model).items()}

    def loss(parts):
        return torch.func.functional_call(model, parts, (), inputs).logits.tanh().sum()

    found = torch.func.grad(loss)(parts)
    model(**inputs).logits.tanh().sum().backward()
    for name, part in learnt(model).items():
        assert_close(found[name], part.grad, tolerances.SCAN_FLOAT32, name)
    ones = {name: torch.ones_like(part) for name, part in parts.items()}
    moved = torch.func.jvp(loss, (parts,), (ones,))[1]
    wanted = sum(part.sum() for part in found.values())
    assert_close(moved, wanted, tolerances.SCAN_FLOAT32)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("classifier", "config", "adapted"), CASES)
def test_a_classifier_is_exported_for_any_length(classifier, config, adapted, masked):
    model = built(classifier, config, adapted).eval()
    any_size = {0: torch.export.Dim("b"), 1: torch.export.Dim("l", min=2, max=512)}
    inputs = documents_of(2, 50, masked)
    program = torch.export.export(model, (), inputs, dynamic_shapes=dict.fromkeys(inputs, any_size))
    for b, length in ((2, 50), (1, 3), (3, 90)):
        inputs = documents_of(b, length, masked)
        with torch.no_grad():
            found, wanted = program.module()(**inputs).logits, model(**inputs).logits
        assert_close(found, wanted, tolerances.MODEL_FLOAT32)


@pytest.mark.parametrize(("classifier", "config", "adapted"), CASES)
def test_a_classifier_is_one_graph_forward_and_back(classifier, config, adapted):
    model = built(classifier, config, adapted)
    inputs = documents_of(2, 40, masked=adapted)
    traced = torch.compile(model, backend="aot_eager", fullgraph=True)
    parts = list(learnt(model).values())
    found, wanted = (
        torch.autograd.grad(each(**inputs, labels=torch.tensor([0, 2])).loss, parts)
        for each in (traced, model)
    )
    for one, other in zip(found, wanted, strict=True):
        assert_close(one, other, tolerances.SCAN_FLOAT32)


@pytest.mark.parametrize(("classifier", "config"), tiny.CLASSIFIERS)
def test_a_graph_refuses_a_document_of_padding_alone(classifier, config):
    model = built(classifier, config, adapted=False).eval()
    inputs = documents_of(2, 40, masked=True)
    graphs = (
        torch.compile(model, backend="aot_eager", fullgraph=True),
        torch.export.export(model, (), inputs).module(),
    )
    nothing = inputs["attention_mask"].clone()
    nothing[1] = 0
    for graph in graphs:
        assert_close(graph(**inputs).logits, model(**inputs).logits, tolerances.MODEL_FLOAT32)
        with pytest.raises(RuntimeError, match="lengths must lie in 1"):
            graph(input_ids=inputs["input_ids"], attention_mask=nothing)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("classifier", "config"), tiny.CLASSIFIERS[:2])
def test_each_padded_document_has_gradients_of_its_own(classifier, config, compiled):
    model, inputs = built(classifier, config, adapted=False), tiny.padded()
    parts = {name: part.detach() for name, part in learnt(model).items()}

    def loss(parts, ids, mask):
        given = {"input_ids": ids[None], "attention_mask": mask[None]}
        return torch.func.functional_call(model, parts, (), given).logits.tanh().sum()

    each = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))
    each = torch.compile(each, backend="aot_eager") if compiled else each
    found = each(parts, *inputs.values())
    for row in range(len(inputs["input_ids"])):
        document = {name: part[row : row + 1] for name, part in inputs.items()}
        model.zero_grad()
        model(**document).logits.tanh().sum().backward()
        for name, part in learnt(model).items():
            wanted = torch.zeros_like(part) if part.grad is None else part.grad
            assert_close(found[name][row], wanted, tolerances.SCAN_FLOAT32, name)


@pytest.mark.parametrize("masked", [False, True])
def test_a_graph_of_gpt_neo_holds_no_square(masked):
    model = GPTNeoForSequenceClassification(tiny.neo()).eval()
    program = torch.export.export(model, (), documents_of(2, 90, masked))
    made = [node.meta["val"] for node in program.graph.nodes if "val" in node.meta]
    shapes = [tuple(part.shape) for part in made if isinstance(part, torch.Tensor)]
    assert any(90 in shape for shape in shapes)
    assert not [shape for shape in shapes if shape.count(90) > 1]


@pytest.mark.parametrize(
    "padding",
    [
        pytest.param(slice(25, None), id="the end"),
        pytest.param(slice(0, 15), id="the beginning"),
        pytest.param(slice(3, 30, 4), id="holes"),
    ],
)
def test_compiled_gpt_neo_reads_what_it_reads_otherwise(padding):
    model = built(GPTNeoForSequenceClassification, tiny.neo, adapted=False)
    inputs = documents_of(3, 40, masked=True)
    real = torch.ones(3, 40, dtype=torch.long)
    real[1, padding] = 0
    inputs["attention_mask"] = real
    traced = torch.compile(model.transformer, backend="aot_eager", fullgraph=True)
    found, wanted = (
        part(use_cache=False, **inputs).last_hidden_state[real.bool()]
        for part in (traced, model.transformer)
    )
    assert_close(found, wanted, tolerances.MODEL_FLOAT32)
    parts = list(learnt(model).values())
    first, second = (
        torch.autograd.grad(part.tanh().sum(), parts, allow_unused=True) for part in (found, wanted)
    )
    for one, other in zip(first, second, strict=True):
        if other is not None:
            assert_close(one, other, tolerances.SCAN_FLOAT32)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("classifier", "config"), tiny.CLASSIFIERS)
def test_torchs_counter_sees_every_product(classifier, config, kind):
    model = built(classifier, config, adapted=False).to(kind)
    with FlopCounterMode(display=False) as counter:
        model(**documents_of(2, 40, masked=False)).logits.sum().backward()
    counts = counter.get_flop_counts()["Global"]
    found = counts[torch.ops.aten.mm] + counts.get(torch.ops.aten.addmm, 0)
    wanted = 0
    for name, part in model.named_modules():
        if isinstance(part, torch.nn.Linear):
            # Forward, and back to inputs and to weights; Mamba goes forward within the layer twice.
            times = 3 + name.endswith(("x_proj", "dt_proj"))
            wanted += times * 2 * (2 if part is model.score else 2 * 40) * part.weight.numel()
    assert found == wanted


@pytest.mark.parametrize("counted", ["forward", "back"])
@pytest.mark.parametrize(("classifier", "config", "adapted"), CASES[1::2])
def test_gradients_are_the_same_where_one_direction_is_counted(
    classifier, config, adapted, counted
):
    """What dropout drops is drawn anew on the way back."""

    def gradients(*modes):
        model = built(classifier, config, adapted, dropout=0.3)
        torch.manual_seed(5)
        with modes[0]:
            loss = model(**tiny.padded()).logits.tanh().sum()
        with modes[1]:
            return torch.autograd.grad(loss, list(learnt(model).values()))

    counter = FlopCounterMode(display=False)
    modes = (counter, nullcontext()) if counted == "forward" else (nullcontext(), counter)
    for found, wanted in zip(
        gradients(*modes), gradients(nullcontext(), nullcontext()), strict=True
    ):
        assert_close(found, wanted, tolerances.SCAN_FLOAT32)
    assert counter.get_total_flops()


@pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects")
@pytest.mark.parametrize(("classifier", "config"), tiny.CLASSIFIERS)
def test_a_strictly_exported_classifier_runs(classifier, config):
    model, inputs = built(classifier, config, adapted=False).eval(), documents_of(2, 40, True)
    program = torch.export.export(model, (), inputs, strict=True)
    assert_close(
        program.module()(**inputs).logits, model(**inputs).logits, tolerances.MODEL_FLOAT32
    )


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("classifier", "config"), tiny.CLASSIFIERS[:2])
def test_a_classifier_without_numbers_gives_shapes(classifier, config, masked):
    inputs = documents_of(2, 40, masked)
    with torch.device("meta"):
        model = classifier(config()).eval()
    found = model(**{name: part.to("meta") for name, part in inputs.items()}).logits
    assert (found.shape, found.is_meta) == ((2, 3), True)
    with FakeTensorMode() as mode:
        model = classifier(config()).eval()
        fake = {name: mode.from_tensor(part) for name, part in inputs.items()}
        assert model(**fake).logits.shape == (2, 3)
        parts = {name: part.detach() for name, part in model.named_parameters()}
        first = torch.func.grad(
            lambda parts: torch.func.functional_call(model, parts, (), fake).logits.sum()
        )(parts)
    assert all(first[name].shape == part.shape for name, part in parts.items())


def documents_of(b, length, masked):
    ids = torch.randint(1, 99, (b, length))
    real = (torch.arange(length) < (length + 1) // 2).long().expand(b, -1)
    return {"input_ids": ids, "attention_mask": real} if masked else {"input_ids": ids}
