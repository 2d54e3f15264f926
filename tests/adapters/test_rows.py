"""An adapter for each row of a batch, as peft's ``adapter_names`` says."""

import pytest
import torch

from longdoc.adapters.lora import add_lora
from longdoc.backbones import MambaForSequenceClassification
from tests import tolerances
from tests.assertions import assert_close
from tests.backbones import tiny

pytestmark = pytest.mark.usefixtures("library")


def with_two_adapters(classifier, config):
    torch.manual_seed(0)
    model = add_lora(classifier(config()), rank=2, dropout=0.0)
    model.add_adapter("other", model.peft_config["default"])
    for name, part in model.named_parameters():
        if "lora_B" in name:  # zeros otherwise
            torch.nn.init.normal_(part, std=0.1)
    return model.eval()


@pytest.mark.parametrize(("classifier", "config"), tiny.CLASSIFIERS)
def test_each_document_of_a_padded_batch_goes_through_its_adapter(classifier, config):
    model, inputs = with_two_adapters(classifier, config), tiny.padded()
    names = ["other", "__base__", "default"]
    found = model(**inputs, adapter_names=names).logits
    alone = {}
    for name in ("default", "other"):
        model.set_adapter(name)
        alone[name] = model(**inputs).logits
    with model.disable_adapter():
        alone["__base__"] = model(**inputs).logits
    for row, name in enumerate(names):
        assert_close(found[row], alone[name][row], tolerances.MODEL_FLOAT32, name)
    assert not torch.allclose(alone["default"], alone["other"], atol=1e-3)


def test_a_mamba_is_not_computed_again_through_other_adapters():
    model, inputs = with_two_adapters(MambaForSequenceClassification, tiny.mamba), tiny.padded()
    logits = model(**inputs, adapter_names=["other", "__base__", "default"]).logits
    with pytest.raises(RuntimeError, match=r"what is active of a .*Mixer was changed"):
        logits.sum().backward()
