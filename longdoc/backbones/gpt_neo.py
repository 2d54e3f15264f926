"""GPT-Neo whose memory grows with the tokens, not with their square.

Letters: ``b`` documents in the batch, ``l`` tokens, ``d`` hidden width.

transformers' GPT-Neo builds a matrix of ``(l, l)`` a head and keeps masks of all its positions
squared. Ours builds neither; where its eager path is asked for something only that has (attention
weights, a cache, attention dropout), that path runs.
"""

import copy
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from transformers import GPTNeoConfig, GPTNeoModel, PreTrainedModel
from transformers.activations import NewGELUActivation
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.models.gpt_neo import modeling_gpt_neo
from transformers.models.gpt_neo.modeling_gpt_neo import (
    GPTNeoPreTrainedModel,
    GPTNeoSelfAttention,
)

from longdoc.backbones.activations import FastGelu
from longdoc.kernels import causal_attention
from longdoc.kernels.documents import places_of


class BlockSelfAttention(GPTNeoSelfAttention):
    """GPT-Neo's attention without a matrix of ``(l, l)``."""

    def __init__(self, config: Any, attention_type: str, layer_id: int | None = None) -> None:
        # Theirs makes a mask of all positions squared, which at 8,192 is 67 MB a layer, and more on
        # the way there.
        small = copy.copy(config)
        small.max_position_embeddings = 1
        super().__init__(small, attention_type, layer_id)  # type: ignore[no-untyped-call]
        self.config = config
        self.bias = None  # type: ignore[assignment]

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        layer_past: Any = None,
        use_cache: bool = False,
        output_attentions: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend.

        Args:
            hidden_states: Shape ``(b, l, d)``.
            attention_mask: None, transformers' additive mask, or the places where documents begin
                that lie one after the other, shape ``(documents + 1,)``.
            layer_past: A cache; with one transformers' own path runs, as with the next two.
            use_cache: Whether to keep keys and values.
            output_attentions: Whether weights are wanted.
            **kwargs: Passed on to transformers' own path.
        """
        masked = attention_mask is not None and attention_mask.dim() > 1
        drops = self.training and self.attn_dropout.p > 0
        packed = attention_mask is not None and not masked
        if packed and (drops or layer_past is not None or output_attentions):
            message = (
                "documents one after the other have no attention dropout, cache or attention "
                "weights; give them as rows with an attention_mask"
            )
            raise ValueError(message)
        if masked or drops or layer_past is not None or output_attentions:
            return self._eager(
                hidden_states, attention_mask, layer_past, use_cache, output_attentions, **kwargs
            )
        query, key, value = (
            self._split_heads(project(hidden_states), self.num_heads, self.head_dim)  # type: ignore[no-untyped-call]
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        window = self.config.window_size if self.attention_type == "local" else None
        found = causal_attention(query, key, value, 1.0, window, attention_mask)
        found = self.out_proj(self._merge_heads(found, self.num_heads, self.head_dim))  # type: ignore[no-untyped-call]
        return self.resid_dropout(found), None

    def _eager(self, hidden_states: Tensor, *arguments: Any, **kwargs: Any) -> Any:
        """Run transformers' path with the mask of positions it expects, made for this call."""
        cache = arguments[1]
        tokens, device = hidden_states.shape[1], hidden_states.device
        before, keys = 0, tokens
        if cache is not None:
            before = cache.get_seq_length(self.layer_id)
            # A static cache gives all its places, also those that nothing stands in yet.
            keys = cache.get_mask_sizes(tokens, self.layer_id)[0]
        place = before + torch.arange(tokens, device=device)[:, None]
        key = torch.arange(keys, device=device)[None]
        seen = key <= place
        if self.attention_type == "local":
            seen = seen & (key > place - self.config.window_size)
        # transformers takes the last rows of a square.
        seen = torch.cat([seen.new_zeros(keys - tokens, keys), seen])
        # Another thread may be in this module: the mask of this call is put on a copy.
        mine = copy.copy(self)
        mine._buffers = {**self._buffers, "bias": seen[None, None]}
        return GPTNeoSelfAttention.forward(mine, hidden_states, *arguments, **kwargs)


class WithoutMasks(GPTNeoPreTrainedModel):
    """First weights as transformers has them, but no masks."""

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, BlockSelfAttention):
            PreTrainedModel._init_weights(self, module)
        else:
            super()._init_weights(module)  # type: ignore[no-untyped-call]


class BlockGPTNeoModel(WithoutMasks, GPTNeoModel):
    """GPT-Neo's backbone without a mask of ``(l, l)``."""

    def __init__(self, config: GPTNeoConfig) -> None:
        with mock.patch.dict(modeling_gpt_neo.GPT_NEO_ATTENTION_CLASSES, eager=BlockSelfAttention):
            super().__init__(config)
        use_block_attention(self)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Read documents.

        Args:
            input_ids: Token numbers, shape ``(b, l)``.
            attention_mask: 1 for real tokens, shape ``(b, l)``; or the places where documents
                begin that lie one after the other, shape ``(documents + 1,)`` (then ``b = 1``).
            inputs_embeds: Embedded tokens instead of ``input_ids``.
            output_hidden_states: Whether every layer's states are given.
            **kwargs: What transformers' own forward takes; most of it makes that run.
        """
        if input_ids is not None and inputs_embeds is not None:
            message = "give either input_ids or inputs_embeds"
            raise ValueError(message)
        starts = None
        if attention_mask is not None and attention_mask.dim() == 1:
            starts = attention_mask
        if kwargs.get("use_cache") is None:
            kwargs["use_cache"] = self.config.use_cache
        weights = bool(self.config.output_attentions)
        if starts is None and (weights or not _plain(attention_mask, kwargs)):
            return super().forward(
                input_ids=input_ids,
                attention_mask=attention_mask,
                inputs_embeds=inputs_embeds,
                output_hidden_states=output_hidden_states,
                **kwargs,
            )
        embedded = self.wte(input_ids) if inputs_embeds is None else inputs_embeds
        hidden = self.drop(embedded + self.wpe(_places(embedded, starts)))
        wanted = output_hidden_states or (
            output_hidden_states is None and self.config.output_hidden_states
        )
        states = []
        for block in self.h:
            states.append(hidden)
            hidden = block(hidden, attention_mask=starts)[0]
        hidden = self.ln_f(hidden)
        outputs = BaseModelOutputWithPast(
            last_hidden_state=hidden, hidden_states=(*states, hidden) if wanted else None
        )
        return outputs if kwargs.get("return_dict") is not False else outputs.to_tuple()


def _plain(attention_mask: Tensor | None, kwargs: dict[str, Any]) -> bool:
    """Say whether documents are whole or padded at their ends, and nothing else is asked for."""
    if attention_mask is not None:
        attention_mask = attention_mask.long()
    asked = {name for name, value in kwargs.items() if value is not None and value is not False}
    if asked - {"return_dict"}:
        return False
    return attention_mask is None or bool((attention_mask.diff(dim=1) <= 0).all())


def _places(embedded: Tensor, starts: Tensor | None) -> Tensor:
    if starts is not None:
        return places_of(starts)
    return torch.arange(embedded.shape[1], device=embedded.device)[None]


def use_block_attention(model: nn.Module) -> nn.Module:
    """Let GPT-Neo models inside ``model`` attend in blocks; weights stay as they are."""
    for module in model.modules():
        if type(module) is GPTNeoModel:
            module.__class__ = BlockGPTNeoModel
        elif type(module) is GPTNeoSelfAttention:
            module.__class__ = BlockSelfAttention
            module.bias = None  # type: ignore[assignment]
        for name, part in module.named_children():
            if isinstance(part, NewGELUActivation):
                # The same function, fused.
                setattr(module, name, FastGelu("tanh"))
    return model
