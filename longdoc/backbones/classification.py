"""Document classification on the last real token, for every causal family.

transformers' own heads find the last token by comparing with the padding number, which picks the
wrong one where padding and end-of-text share a number; ours goes by the attention mask.

Letters: ``b`` documents in the batch, ``l`` tokens, ``c`` labels.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import GPTNeoConfig, LlamaConfig, LlamaModel
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.models.llama.modeling_llama import LlamaPreTrainedModel

from longdoc.backbones.gpt_neo import BlockGPTNeoModel, WithoutMasks
from longdoc.backbones.linear import use_fast_linears
from longdoc.backbones.llama import use_packed_attention
from longdoc.backbones.rows import adapter_of_each_row
from longdoc.heads.pooling import can_look, last_token, real_lengths


class LastTokenClassification:
    """The forward pass shared by all causal classifiers; mixed into a ``PreTrainedModel``."""

    packs_documents = False
    """Whether the backbone reads documents of unequal length laid one after the other."""

    accepts_loss_kwargs = False
    """The loss is a mean over the batch; transformers' Trainer must scale it for accumulation."""

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput | tuple[Tensor, ...]:
        """Classify documents.

        Args:
            input_ids: Token numbers, shape ``(b, l)``.
            attention_mask: 1 for real tokens, shape ``(b, l)``; all real without.
            inputs_embeds: Embedded tokens instead of ``input_ids``, shape ``(b, l, d)``.
            labels: For a loss: ``(b,)`` integers for one label a document, ``(b, c)`` floats for
                several labels or regression.
            return_dict: Whether a record rather than a tuple comes back.
            **kwargs: Passed on to the backbone (``output_hidden_states`` ...).

        Returns:
            ``logits`` of shape ``(b, c)``, and ``loss`` if labels are given.
        """
        outputs, lengths = self._read(input_ids, attention_mask, inputs_embeds, kwargs)
        logits = self.head(last_token(outputs.last_hidden_state, lengths))
        loss = None
        if labels is not None:
            loss = self.loss_function(  # type: ignore[attr-defined]
                labels=labels,
                pooled_logits=logits,
                config=self.config,  # type: ignore[attr-defined]
            )
        result = SequenceClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=getattr(outputs, "attentions", None),
        )
        return result if return_dict is not False else result.to_tuple()

    def vectors(self, input_ids: Tensor | None, attention_mask: Tensor | None) -> Tensor:
        """Give what the head stands on: a vector a document, shape ``(b, d)``."""
        outputs, lengths = self._read(input_ids, attention_mask, None, {})
        return last_token(outputs.last_hidden_state, lengths)

    def head(self, vectors: Tensor) -> Tensor:
        """Give logits ``(b, c)`` of vectors ``(b, d)``."""
        device = vectors.device.type
        if not (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)):
            # Mamba's last state is float32 whatever its weights are.
            vectors = vectors.to(next(self.score.parameters()).dtype)  # type: ignore[attr-defined]
        logits: Tensor = self.score(vectors)  # type: ignore[attr-defined]
        return logits

    def _read(
        self,
        input_ids: Tensor | None,
        mask: Tensor | None,
        embeds: Tensor | None,
        kwargs: dict[str, Any],
    ) -> tuple[Any, Tensor]:
        """Run the backbone; gives its outputs and where each document's last token stands.

        Padded documents are laid one after the other where the backbone can read them so.
        """
        backbone = getattr(self, self.base_model_prefix)  # type: ignore[attr-defined]
        if (input_ids is None) == (embeds is None):
            message = "give either input_ids or inputs_embeds"
            raise ValueError(message)
        given = embeds if embeds is not None else input_ids
        assert given is not None
        kwargs = {name: value for name, value in kwargs.items() if name != "use_cache"}
        if mask is None:
            lengths = torch.full(given.shape[:1], given.shape[1], device=given.device)
        else:
            lengths = real_lengths(mask)
            if can_look(lengths) and int(lengths.min()) < 1:
                message = f"document {int(lengths.argmin())} of the batch has no real token"
                raise ValueError(message)
            if can_look(mask) and bool(mask.bool().all()):
                # Nothing to leave out: a backbone then need not look at each token's place.
                mask = None
        if mask is not None and self._packs(mask, kwargs):
            counts = mask.bool().sum(1)
            starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
            real = mask.bool()
            row = {
                "input_ids": None if input_ids is None else input_ids[real][None],
                "inputs_embeds": None if embeds is None else embeds[real][None],
            }
            outputs = backbone(**row, attention_mask=starts, use_cache=False, return_dict=True)
            outputs.last_hidden_state = outputs.last_hidden_state[0, starts[1:] - 1][:, None]
            return outputs, torch.ones_like(lengths)
        outputs = backbone(
            input_ids=input_ids,
            attention_mask=mask,
            inputs_embeds=embeds,
            use_cache=False,
            return_dict=True,
            **kwargs,
        )
        return outputs, lengths

    def _packs(self, mask: Tensor, kwargs: dict[str, Any]) -> bool:
        """Say whether padding is left out; where it must be seen it is not."""
        if not self.packs_documents or mask.device.type != "cpu" or not can_look(mask):
            return False
        config = self.config  # type: ignore[attr-defined]
        drops = self.training and getattr(config, "attention_dropout", 0)  # type: ignore[attr-defined]
        if config.output_hidden_states or config.output_attentions or drops:
            return False
        if any(value is not None and value is not False for value in kwargs.values()):
            return False
        if any(adapter_of_each_row(module) for module in self.modules()):  # type: ignore[attr-defined]
            return False
        # Only padding behind: what stands before a document counts as its positions.
        real = mask.bool()
        behind = bool((real.int().diff(dim=1) <= 0).all())
        return behind and bool(real[:, 0].all())


class GPTNeoForSequenceClassification(LastTokenClassification, WithoutMasks):
    """GPT-Neo with a linear layer on the state of the last real token."""

    packs_documents = True

    def __init__(self, config: GPTNeoConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.transformer = BlockGPTNeoModel(config)
        self.score = nn.Linear(config.hidden_size, int(config.num_labels or 0), bias=False)
        self.post_init()  # type: ignore[no-untyped-call]
        use_fast_linears(self)


class LlamaForSequenceClassification(LastTokenClassification, LlamaPreTrainedModel):
    """A Llama-family backbone with a linear layer on the state of the last real token."""

    base_model_prefix = "model"
    packs_documents = True

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.model = LlamaModel(config)
        self.score = nn.Linear(config.hidden_size, int(config.num_labels or 0), bias=False)
        self.post_init()  # type: ignore[no-untyped-call]
        use_packed_attention(self)
        use_fast_linears(self)
