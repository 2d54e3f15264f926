"""A backbone with its language-model head, whose loss needs no logits of all tokens.

Letters: ``b`` pieces, ``l`` tokens, ``p`` predicted tokens, ``d`` hidden width, ``v`` vocabulary.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    BertForMaskedLM,
    GPTNeoForCausalLM,
    LlamaForCausalLM,
    MambaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.modeling_outputs import MaskedLMOutput

from longdoc.backbones import bert_attention, build
from longdoc.backbones.bert_layers import use_fast_layers
from longdoc.backbones.catalog import BackboneCard
from longdoc.backbones.dropout import use_fast_dropouts
from longdoc.backbones.gpt_neo import use_block_attention
from longdoc.backbones.linear import use_fast_linears
from longdoc.backbones.llama import use_packed_attention
from longdoc.backbones.mamba import use_modular_mixers
from longdoc.backbones.neighbours import PLACES, look_at_neighbours
from longdoc.backbones.settings import ATTENTION_DROPOUT, BackboneSettings
from longdoc.pretraining.batches import IGNORED
from longdoc.pretraining.objective import linear_cross_entropy
from longdoc.settings import require


class PredictsTokens:
    """The forward pass of every language model here; mixed into transformers' own class."""

    accepts_loss_kwargs = False

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        **_: Any,
    ) -> MaskedLMOutput:
        """Predict tokens.

        Args:
            input_ids: Token numbers, shape ``(b, l)``.
            attention_mask: 1 for real tokens, shape ``(b, l)``; or where pieces start that lie one
                after the other, shape ``(pieces + 1,)`` (then ``b = 1``).
            labels: What is predicted at each token, shape ``(b, l)``; -100 where nothing is.

        Returns:
            ``loss``, the mean over the predicted tokens, and ``hidden_states``: what the output
            embeddings are multiplied with, shape ``(p, d)``.
        """
        states = self.predicting_states(input_ids, attention_mask, labels)
        outputs: Any = self.get_output_embeddings()  # type: ignore[attr-defined]
        aims = labels[labels != IGNORED]
        loss = linear_cross_entropy(states, outputs.weight, aims, outputs.bias)
        return MaskedLMOutput(loss=loss, hidden_states=(states,))

    def predicting_states(self, input_ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        """Give the states at the predicted tokens, shape ``(p, d)``."""
        backbone = getattr(self, self.base_model_prefix)  # type: ignore[attr-defined]
        outputs = backbone(
            input_ids=input_ids, attention_mask=mask, return_dict=True, use_cache=False
        )
        states: Tensor = outputs.last_hidden_state[labels != IGNORED]
        return states


class MambaPredictsNext(PredictsTokens, MambaForCausalLM):
    """Mamba with its next-token head."""


class GPTNeoPredictsNext(PredictsTokens, GPTNeoForCausalLM):
    """GPT-Neo with its next-token head."""


class LlamaPredictsNext(PredictsTokens, LlamaForCausalLM):
    """Llama with its next-token head."""


class BertPredictsMasked(PredictsTokens, BertForMaskedLM):
    """BERT with its masked-token head, which has a layer before the output embeddings."""

    def predicting_states(self, input_ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        """Give the states at the predicted tokens, shape ``(p, d)``."""
        bert_attention.choose(self, input_ids)
        states: Tensor = self.cls.predictions.transform(
            super().predicting_states(input_ids, mask, labels)
        )
        return states


MODELS: Mapping[str, Any] = {
    "mamba": MambaPredictsNext,
    "gpt_neo": GPTNeoPredictsNext,
    "llama": LlamaPredictsNext,
    "bert": BertPredictsMasked,
}
PLAIN: Mapping[str, Any] = {
    "mamba": MambaForCausalLM,
    "gpt_neo": GPTNeoForCausalLM,
    "llama": LlamaForCausalLM,
    "bert": BertForMaskedLM,
}
"""transformers' own classes, as which models are saved."""


def make(
    card: BackboneCard,
    settings: BackboneSettings,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
) -> PreTrainedModel:
    """Make a language model with the backbone's weights, or with random ones.

    Args:
        card: The backbone.
        settings: Whether its weights are used, and which revision.
        tokenizer: Its tokenizer.
        seed: Of weights that start at random.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: PreTrainedModel = build.weights(
            MODELS[card.family], card, settings, len(tokenizer), **_changes(card, settings)
        )
    if card.family in PLACES and build.starts_at_random(card, settings):
        look_at_neighbours(model)
    if card.family == "bert":
        # What stands above [CLS] is not kept, and nothing here learns to read it.
        model.config.pooling = "mean"
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.eos_token_id = tokenizer.eos_token_id
    model.config.bos_token_id = tokenizer.eos_token_id
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return prepared(model)


def _changes(card: BackboneCard, settings: BackboneSettings) -> dict[str, Any]:
    """Say what of a checkpoint's configuration pretraining changes.

    Raises:
        SettingsError: A setting has no meaning here.
    """
    name, rate = ATTENTION_DROPOUT.get(card.family), settings.attention_dropout
    alone = "left out for pretraining, which reads every token by itself"
    require(settings.pooling == "auto", "backbone.pooling", alone, settings.pooling)
    if card.causal:
        packed = f"left out: {card.name} learns from documents one after the other, without it"
        require(not rate, "backbone.attention_dropout", packed, rate)
        return {} if name is None else {name: 0.0}  # a checkpoint's own may have some
    fits = rate is None or 0 <= rate < 1
    require(fits, "backbone.attention_dropout", "in 0..1, 1 excluded", rate)
    return {} if rate is None else {str(name): rate}


def prepared(model: PreTrainedModel) -> PreTrainedModel:
    """Let a model run on longdoc's kernels."""
    for faster in (
        *(use_modular_mixers, use_block_attention, use_packed_attention),
        *(use_fast_linears, use_fast_dropouts, use_fast_layers),
    ):
        faster(model)
    return model


def save(model: PreTrainedModel, folder: Path, kind: torch.dtype) -> None:
    """Save a model as transformers' own class would.

    Args:
        model: One of ``MODELS``.
        folder: Where to.
        kind: Number format of the weights.
    """
    plain = PLAIN[model.config.model_type](model.config)
    plain.load_state_dict(model.state_dict())
    plain.tie_weights()
    plain.to(kind).save_pretrained(folder)


def load(folder: Path, family: str) -> PreTrainedModel:
    """Load a saved model, weights in float32."""
    model = MODELS[family].from_pretrained(folder, use_safetensors=True, dtype=torch.float32)
    return prepared(model)
