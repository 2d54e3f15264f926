"""GPT-Neo whose memory grows with the tokens, not with their square.

Letters: ``b`` documents in the batch, ``l`` tokens, ``d`` hidden width.

transformers' GPT-Neo builds a matrix of ``(l, l)`` a head and keeps masks of all its positions
squared. Ours builds neither. With attention dropout, masks with wide holes or a cache that holds
tokens already, queries attend a part at a time (:mod:`longdoc.backbones.parts`). Only who asks for
attention weights, which are that matrix, or compiles such a call, gets transformers' path.
"""

import copy
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional
from transformers import Cache, DynamicCache, GPTNeoConfig, GPTNeoModel, PreTrainedModel
from transformers.activations import NewGELUActivation
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.models.gpt_neo import modeling_gpt_neo
from transformers.models.gpt_neo.modeling_gpt_neo import (
    GPTNeoPreTrainedModel,
    GPTNeoSelfAttention,
)

from longdoc.backbones.activations import FastGelu
from longdoc.backbones.parts import Seen, are_large, attend
from longdoc.backbones.rows import Rows, Unread, are_runs, rows_of, see_real_tokens
from longdoc.heads.pooling import can_look
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
        attention_mask: "Tensor | Rows | Unread | Seen | None" = None,
        layer_past: Any = None,
        use_cache: bool = False,
        output_attentions: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend.

        Args:
            hidden_states: Shape ``(b, l, d)``.
            attention_mask: None, transformers' additive mask, or the places where documents begin
                that lie one after the other, shape ``(documents + 1,)``; rows with padding at an
                end, or with several documents, come as :class:`Rows`, with narrow holes or within a
                graph as :class:`Unread`, all else as :class:`Seen`.
            layer_past: A cache to fill, or one that holds tokens.
            use_cache: Whether to keep keys and values.
            output_attentions: Whether weights are wanted, for which transformers' own path runs.
            **kwargs: Passed on to that.
        """
        rows = attention_mask if isinstance(attention_mask, (Rows, Unread)) else None
        starts = attention_mask if isinstance(attention_mask, Tensor) else None
        masked = starts is not None and starts.dim() > 1
        drops = self.training and self.attn_dropout.p > 0
        fresh = layer_past is None or _is_fresh(layer_past, self.layer_id)
        own = drops or output_attentions or not fresh
        if rows is not None or (starts is not None and not masked):
            if own or (layer_past is not None and rows is None):
                message = (
                    "documents one after the other have no attention dropout, cache or attention "
                    "weights; give them as rows with an attention_mask"
                )
                raise ValueError(message)
        elif isinstance(attention_mask, Seen):
            return self._in_parts(hidden_states, attention_mask, layer_past), None
        elif masked or own:
            if output_attentions or not self._is_large(hidden_states, layer_past):
                return self._eager(
                    hidden_states, starts, layer_past, use_cache, output_attentions, **kwargs
                )
            before, keys = _span(hidden_states.shape[1], layer_past, self.layer_id)
            if starts is not None and starts.shape[-2] not in (1, hidden_states.shape[1]):
                high, tokens = starts.shape[-2], hidden_states.shape[1]
                message = f"attention_mask has {high} rows for {tokens} tokens"
                raise ValueError(message)
            seen = Seen(int(before), keys, hidden_states.dtype, given=starts)
            return self._in_parts(hidden_states, seen, layer_past), None
        query, key, value = self._heads(hidden_states)
        if layer_past is not None:
            kept = (key, value) if rows is None else (rows.parts(key), rows.parts(value))
            layer_past.update(*kept, self.layer_id)
        found = (
            causal_attention(query, key, value, 1.0, self._window, starts)
            if rows is None
            else rows.attend(query, key, value, self._window)
        )
        return self._merged(found), None

    @property
    def _window(self) -> int | None:
        """Give the tokens that a local layer sees, None for a global one."""
        return self.config.window_size if self.attention_type == "local" else None

    def _heads(self, hidden_states: Tensor) -> list[Tensor]:
        """Give queries, keys and values, each ``(b, heads, l, width)``."""
        return [
            self._split_heads(project(hidden_states), self.num_heads, self.head_dim)  # type: ignore[no-untyped-call]
            for project in (self.q_proj, self.k_proj, self.v_proj)
        ]

    def _merged(self, found: Tensor) -> Tensor:
        """Put heads together, ``(b, l, d)``, and project them."""
        found = self.out_proj(self._merge_heads(found, self.num_heads, self.head_dim))  # type: ignore[no-untyped-call]
        return self.resid_dropout(found)

    def _is_large(self, hidden_states: Tensor, cache: Any) -> bool:
        """Say whether the scores are too many for transformers' path."""
        if torch.compiler.is_compiling() or hidden_states.is_meta:
            return False
        rows, tokens = hidden_states.shape[:2]
        return are_large(rows, self.num_heads, tokens, _span(tokens, cache, self.layer_id)[1])

    def _in_parts(self, hidden_states: Tensor, seen: Seen, cache: Any) -> Tensor:
        """Attend as transformers does, a part of the queries at a time."""
        query, key, value = self._heads(hidden_states)
        if cache is not None:
            key, value = cache.update(key, value, self.layer_id)
        dropout = self.attn_dropout.p if self.attn_dropout.training else 0.0
        return self._merged(attend(query, key, value, seen, self._window, dropout))

    def _eager(self, hidden_states: Tensor, *arguments: Any, **kwargs: Any) -> Any:
        """Run transformers' path with the mask of positions it expects, made for this call."""
        tokens, device = hidden_states.shape[1], hidden_states.device
        before, keys = _span(tokens, arguments[1], self.layer_id)
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
        past_key_values: Cache | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        *,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Read documents.

        Args:
            input_ids: Token numbers, shape ``(b, l)``.
            past_key_values: A cache to fill or to go on from.
            attention_mask: 1 for real tokens, shape ``(b, l)``; or the places where documents
                begin that lie one after the other, shape ``(documents + 1,)`` (then ``b = 1``).
            token_type_ids: Token numbers whose embeddings are added, shape ``(b, l)``.
            position_ids: Places of the tokens, shape ``(b, l)`` or ``(1, l)``. As in transformers,
                where neither a mask nor a cache is there, a place that is not the one after the
                last begins another document.
            inputs_embeds: Embedded tokens instead of ``input_ids``.
            output_hidden_states: Whether every layer's states are given.
            **kwargs: ``use_cache``, ``return_dict`` and ``output_attentions`` as in transformers,
                whose forward runs for the last and takes no notice of others.

        Returns:
            transformers' output, at padding too where masks are float32; within a graph of
            ``torch.compile`` or export not at padding that lies farther behind a document than a
            window. What is learnt through states of padding before documents, and farther behind
            them than a window, is less: there transformers has gradients of scores that rounding
            has made equal.
        """
        if (input_ids is None) == (inputs_embeds is None):
            message = "give either input_ids or inputs_embeds"
            raise ValueError(message)
        x = self.wte(input_ids) if inputs_embeds is None else inputs_embeds
        if position_ids is not None:
            position_ids = position_ids.view(-1, x.shape[1])
        cache = past_key_values
        laid: Tensor | Rows | Unread | Seen | None = attention_mask
        if attention_mask is None or attention_mask.dim() != 1:
            cache = self._cache(cache, kwargs.get("use_cache"))
            tells = position_ids is not None and attention_mask is None and cache is None
            unknown = torch.compiler.is_compiling() or x.is_meta or isinstance(x, FakeTensor)
            undecided = tells and unknown
            serves = not undecided and self._serves(x, attention_mask, cache, kwargs)
            if serves:
                laid = rows_of(x, attention_mask, position_ids, cache is not None)
            elif self._is_large(x, attention_mask, cache, kwargs):
                laid = _seen(x, attention_mask, cache, position_ids)
            else:
                return super().forward(
                    inputs_embeds=x,
                    past_key_values=past_key_values,
                    attention_mask=attention_mask,
                    token_type_ids=token_type_ids,
                    position_ids=position_ids,
                    output_hidden_states=output_hidden_states,
                    **kwargs,
                )
        x = x + self.wpe(_places(x, laid) if position_ids is None else position_ids)
        if token_type_ids is not None:
            x = x + self.wte(token_type_ids.view(-1, x.shape[1]))
        outputs = self._read(self.drop(x), laid, cache, output_hidden_states)
        plain = (
            self.config.return_dict if kwargs.get("return_dict") is None else kwargs["return_dict"]
        )
        return outputs if plain else outputs.to_tuple()

    def _cache(self, given: Cache | None, use_cache: bool | None) -> Cache | None:
        """Give the cache to fill, one of our own where keys and values are wanted."""
        wanted = self.config.use_cache if use_cache is None else use_cache
        if given is None and wanted and not (self.gradient_checkpointing and self.training):
            return DynamicCache(config=self.config)
        return given

    def _serves(
        self, x: Tensor, mask: Tensor | None, cache: Cache | None, asked: dict[str, Any]
    ) -> bool:
        """Say whether a causal kernel makes what transformers does, nothing being read before."""
        drops = self.training and self.config.attention_dropout > 0
        if (
            drops
            or self._gives_weights(asked)
            or not (cache is None or _is_fresh(cache))
            or not x.shape[0]
        ):
            return False
        if mask is None:
            return True
        if mask.shape != x.shape[:2]:
            return False
        if torch.compiler.is_compiling():
            return x.dtype != torch.float64
        if mask.is_meta or isinstance(mask, FakeTensor):
            return False  # nothing can be known of it
        if not can_look(mask):  # as in a graph
            return x.dtype != torch.float64
        real = mask.bool()
        if x.dtype == torch.float64 and not bool(real.all()):
            return False  # its least number masks more than that of the scores
        if are_runs(real):
            return True
        if x.dtype == torch.float16 or not self._is_large(x, mask, cache, asked):
            return False  # there a score is not lost in a mask's least number
        local = "local" in self.config.attention_layers
        return see_real_tokens(real, self.config.window_size if local else None)

    def _gives_weights(self, asked: dict[str, Any]) -> bool:
        weights = asked.get("output_attentions")
        return bool(self.config.output_attentions if weights is None else weights)

    def _is_large(
        self, x: Tensor, mask: Tensor | None, cache: Cache | None, asked: dict[str, Any]
    ) -> bool:
        """Say whether scores are too many for transformers' path, and a part at a time will do."""
        if torch.compiler.is_compiling() or x.is_meta or isinstance(x, FakeTensor):
            return False
        if self._gives_weights(asked):
            return False
        if cache is not None and self.gradient_checkpointing and self.training:
            return False
        keys = _span(x.shape[1], cache, 0)[1]
        fits = mask is None or (mask.dim() == 2 and len(mask) == len(x) and mask.shape[1] <= keys)
        return fits and are_large(len(x), self.config.num_heads, x.shape[1], keys)

    def _read(
        self,
        hidden: Tensor,
        laid: "Tensor | Rows | Unread | Seen | None",
        cache: Cache | None,
        output_hidden_states: bool | None,
    ) -> BaseModelOutputWithPast:
        """Send embedded tokens through the layers."""
        wanted = output_hidden_states
        wanted = self.config.output_hidden_states if wanted is None else wanted
        shape = hidden.shape
        if isinstance(laid, Rows) and laid.starts is not None:
            hidden = hidden.flatten(0, 1)[None]
        states = []
        for block in self.h:
            if wanted:
                states.append(hidden)
            hidden = block(hidden, attention_mask=laid, layer_past=cache)[0]
        states.append(self.ln_f(hidden))
        states = [state.view(shape) for state in states]
        return BaseModelOutputWithPast(
            last_hidden_state=states[-1],
            past_key_values=cache,
            hidden_states=tuple(states) if wanted else None,
        )


def _is_fresh(cache: Any, layer: int | None = None) -> bool:
    """Say whether ``cache`` grows with what it is given, and was given nothing yet."""
    return isinstance(cache, DynamicCache) and cache.get_seq_length(layer or 0) == 0


def _places(embedded: Tensor, laid: Tensor | Rows | Unread | Seen | None) -> Tensor:
    if isinstance(laid, Tensor):
        return places_of(laid)
    before = laid.before if isinstance(laid, Seen) else 0
    return before + torch.arange(embedded.shape[1], device=embedded.device)[None]


def _span(tokens: int, cache: Any, layer: int | None) -> tuple[Any, int]:
    """Give how many tokens were read before, and how many keys there will be."""
    if cache is None:
        return 0, tokens
    # A static cache gives all its places, also those that nothing stands in yet.
    return cache.get_seq_length(layer), cache.get_mask_sizes(tokens, layer)[0]


def _seen(x: Tensor, mask: Tensor | None, cache: Cache | None, position_ids: Tensor | None) -> Seen:
    """Say what transformers' mask would: padding, and other documents where places begin anew."""
    before, keys = _span(x.shape[1], cache, 0)
    documents = None
    if position_ids is not None and mask is None and cache is None:
        begins = position_ids.diff(dim=1, prepend=position_ids[:, :1]) != 1
        documents = begins.cumsum(1).expand(len(x), -1)
        documents = documents if bool((documents != 1).any()) else None
    real = None
    if mask is not None:  # of keys that it does not tell of, such as a cache's empty places, none
        real = functional.pad(mask.bool(), (0, keys - mask.shape[1]))
    return Seen(int(before), keys, x.dtype, real, documents)


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
