"""The halves of a BERT layer, each ending in one kernel instead of three passes over memory.

Names and weights are transformers' own. Letters: ``b`` documents, ``l`` tokens, ``d`` channels.
"""

from typing import Any

from torch import Tensor, nn
from transformers.activations import GELUActivation
from transformers.models.bert.modeling_bert import BertIntermediate, BertOutput, BertSelfOutput

from longdoc.backbones.activations import FastGelu
from longdoc.backbones.dropout import FastDropout
from longdoc.kernels import add_norm


class FastBertSelfOutput(BertSelfOutput):
    """What follows attention: a linear layer, dropout, the sum with the input, its norm."""

    def forward(self, hidden_states: Tensor, input_tensor: Tensor) -> Tensor:
        """Give ``(b, l, d)`` of what attention made and of its input, both ``(b, l, d)``."""
        return _ended(self, self.dense(hidden_states), input_tensor)


class FastBertOutput(BertOutput):
    """What ends a layer: a linear layer, dropout, the sum with the input, its norm."""

    def forward(self, hidden_states: Tensor, input_tensor: Tensor) -> Tensor:
        """Give ``(b, l, d)`` of wide states ``(b, l, 4 d)`` and of their input ``(b, l, d)``."""
        return _ended(self, self.dense(hidden_states), input_tensor)


def _ended(half: Any, made: Tensor, residual: Tensor) -> Tensor:
    norm, dropout = half.LayerNorm, half.dropout
    if not _plain(norm, nn.LayerNorm) or not _plain(dropout, nn.Dropout, FastDropout):
        # Wrapped by an adapter or watched by a hook, which must see what passes through it.
        found: Tensor = norm(dropout(made) + residual)
        return found
    rate = dropout.p if half.training else 0.0
    return add_norm(made, residual, norm.weight, norm.bias, norm.eps, rate)


def _plain(module: nn.Module, *kinds: type[nn.Module]) -> bool:
    hooks = (
        module._forward_hooks, module._forward_pre_hooks,
        module._backward_hooks, module._backward_pre_hooks,
    )  # fmt: skip
    return type(module) in kinds and not any(hooks)


def use_fast_layers(model: nn.Module) -> nn.Module:
    """Let BERT's layers inside a model run on longdoc's kernels; weights stay as they are."""
    for module in model.modules():
        if type(module) is BertSelfOutput:
            module.__class__ = FastBertSelfOutput
        elif type(module) is BertOutput:
            module.__class__ = FastBertOutput
        elif isinstance(module, BertIntermediate):
            plain = type(module.intermediate_act_fn) is GELUActivation
            module.intermediate_act_fn = FastGelu() if plain else module.intermediate_act_fn
    return model
