"""Document classification on the last real token, for every causal family.

transformers' own heads find the last token by comparing with the padding number, which picks the
wrong one where padding and end-of-text share a number; ours goes by the attention mask.

Letters: ``b`` documents in the batch, ``l`` tokens, ``c`` labels.
"""

from typing import Any

from torch import Tensor, nn
from transformers import GPTNeoConfig, GPTNeoModel, LlamaConfig, LlamaModel
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.models.gpt_neo.modeling_gpt_neo import GPTNeoPreTrainedModel
from transformers.models.llama.modeling_llama import LlamaPreTrainedModel

from longdoc.heads.pooling import last_token, real_lengths


class LastTokenClassification:
    """The forward pass shared by all causal classifiers; mixed into a ``PreTrainedModel``."""

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
        backbone = getattr(self, self.base_model_prefix)  # type: ignore[attr-defined]
        outputs = backbone(
            input_ids=input_ids,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            use_cache=False,
            return_dict=True,
            **kwargs,
        )
        hidden = outputs.last_hidden_state
        mask = attention_mask if attention_mask is not None else hidden.new_ones(hidden.shape[:2])
        logits = self.score(last_token(hidden, real_lengths(mask)))  # type: ignore[attr-defined]
        loss = None
        if labels is not None:
            loss = self.loss_function(  # type: ignore[attr-defined]
                labels=labels,
                pooled_logits=logits,
                config=self.config,  # type: ignore[attr-defined]
            )
        result = SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states
        )
        return result if return_dict is not False else result.to_tuple()


class GPTNeoForSequenceClassification(LastTokenClassification, GPTNeoPreTrainedModel):
    """GPT-Neo with a linear layer on the state of the last real token."""

    def __init__(self, config: GPTNeoConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.transformer = GPTNeoModel(config)
        self.score = nn.Linear(config.hidden_size, int(config.num_labels or 0), bias=False)
        self.post_init()  # type: ignore[no-untyped-call]


class LlamaForSequenceClassification(LastTokenClassification, LlamaPreTrainedModel):
    """A Llama-family backbone with a linear layer on the state of the last real token."""

    base_model_prefix = "model"

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.model = LlamaModel(config)
        self.score = nn.Linear(config.hidden_size, int(config.num_labels or 0), bias=False)
        self.post_init()  # type: ignore[no-untyped-call]
