"""Llama that reads documents of unequal length one after the other, without padding.

Letters: ``b`` documents in the batch, ``l`` tokens, ``d`` hidden width, ``w`` width of a head.

transformers' Llama computes what stands in the padding, and of a padded batch builds a mask of
``(b, 1, l, l)``, with which attention looks at the future too before it throws it away.
"""

from typing import Any

from torch import Tensor, nn
from transformers import LlamaModel
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.models.llama.modeling_llama import LlamaAttention, apply_rotary_pos_emb
from transformers.utils import output_capturing

from longdoc.kernels import causal_attention
from longdoc.kernels.documents import check_starts, places_of


class PackedLlamaAttention(LlamaAttention):
    """Llama's attention, also within documents that lie one after the other."""

    # mypy wants every keyword that transformers' own names.
    def forward(  # type: ignore[override]
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend.

        Args:
            hidden_states: Shape ``(b, l, d)``.
            position_embeddings: Cosines and sines of the places, shape ``(b, l, w)`` each.
            attention_mask: What transformers' own path takes, which then runs; or the places where
                documents begin that lie one after the other, shape ``(documents + 1,)``.
            **kwargs: Passed on to transformers' own path.
        """
        if attention_mask is None or attention_mask.dim() > 1:
            found: tuple[Tensor, Tensor | None] = super().forward(
                hidden_states, position_embeddings, attention_mask, **kwargs
            )
            return found
        assert position_embeddings is not None
        if self.training and self.attention_dropout:
            message = (
                "documents one after the other have no attention dropout; give them as rows with "
                "an attention_mask"
            )
            raise ValueError(message)
        query, key, value = (
            project(hidden_states).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        query, key = apply_rotary_pos_emb(query, key, *position_embeddings)
        # Under autocast places are float32, and so is what they were multiplied with.
        query, key = query.to(value.dtype), key.to(value.dtype)
        key, value = (part.repeat_interleave(self.num_key_value_groups, 1) for part in (key, value))
        seen = causal_attention(query, key, value, self.scaling, starts=attention_mask)
        return self.o_proj(seen.transpose(1, 2).flatten(2)), None


class PackedLlamaModel(LlamaModel):
    """Llama's backbone, also for documents that lie one after the other."""

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Read documents.

        Args:
            input_ids: Token numbers, shape ``(b, l)``.
            attention_mask: 1 for real tokens, shape ``(b, l)``; or the places where documents
                begin that lie one after the other, shape ``(documents + 1,)`` (then ``b = 1``).
            inputs_embeds: Embedded tokens instead of ``input_ids``, shape ``(b, l, d)``.
            **kwargs: What transformers' own forward takes; of documents one after the other none
                of it is heeded.

        Raises:
            ValueError: Places where documents begin do not fit.
        """
        if attention_mask is None or attention_mask.dim() > 1:
            return super().forward(
                input_ids=input_ids,
                attention_mask=attention_mask,
                inputs_embeds=inputs_embeds,
                **kwargs,
            )
        hidden = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        check_starts(attention_mask, *hidden.shape[:2])
        places = places_of(attention_mask)
        turned = self.rotary_emb(hidden, position_ids=places)
        for layer in self.layers:
            hidden = layer(
                hidden,
                attention_mask=attention_mask,
                position_embeddings=turned,
                position_ids=places,
            )
        return BaseModelOutputWithPast(last_hidden_state=self.norm(hidden))


def _let_states_be_recorded(model: LlamaModel) -> None:
    """Tell transformers what it can record of a model whose class it did not see being made.

    It keeps that by the name of the class; without it hidden states would be None.
    """
    registry = getattr(output_capturing, "_CAN_RECORD_REGISTRY", None)  # private to transformers
    if registry is not None:
        registry[model] = model._can_record_outputs


def use_packed_attention(model: nn.Module) -> nn.Module:
    """Let Llama models inside ``model`` read documents one after the other; weights stay."""
    for module in model.modules():
        if type(module) is LlamaModel:
            module.__class__ = PackedLlamaModel
            _let_states_be_recorded(module)
        elif type(module) is LlamaAttention:
            module.__class__ = PackedLlamaAttention
    return model
