"""BERT with a classifier on its first token's vector or on the mean of all.

Letters: ``b`` documents in the batch, ``l`` tokens, ``d`` hidden width, ``c`` labels.
"""

from typing import Any

from torch import Tensor
from transformers import BertConfig
from transformers import BertForSequenceClassification as FirstTokenClassification
from transformers.modeling_outputs import SequenceClassifierOutput

from longdoc.backbones import bert_attention
from longdoc.backbones.bert_layers import use_fast_layers
from longdoc.backbones.dropout import use_fast_dropouts
from longdoc.backbones.linear import use_fast_linears
from longdoc.heads.pooling import mean


class BertForSequenceClassification(FirstTokenClassification):
    """transformers' BERT classifier, which can also read the mean of all tokens.

    ``config.pooling`` says which: ``first``, as in devlin2019bert, or ``mean``, as sentence
    encoders are trained (reimers2019sbert); the pooler on the first token is then left out.
    """

    accepts_loss_kwargs = False
    """The loss is a mean over the batch; transformers' Trainer must scale it for accumulation."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.takes_mean = getattr(config, "pooling", "first") == "mean"
        if self.takes_mean:
            self.bert.pooler = None
        use_fast_layers(use_fast_dropouts(use_fast_linears(self)))

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput | tuple[Tensor, ...]:
        """Classify documents.

        Args:
            input_ids: Token numbers, shape ``(b, l)``.
            attention_mask: 1 for real tokens, shape ``(b, l)``; all real without.
            labels: For a loss, with the first token alone.
            **kwargs: As transformers' own class takes them; with the mean they go to the backbone,
                and a record with the logits comes back.

        Raises:
            ValueError: Labels were given with the mean.
        """
        if self.takes_mean:
            if labels is not None:
                message = "mean pooling computes no loss of its own; leave labels out"
                raise ValueError(message)
            vectors = self.vectors(input_ids, attention_mask, **kwargs)
            return SequenceClassifierOutput(logits=self.head(vectors))
        self._choose_attention(input_ids)
        given: Any = {"attention_mask": attention_mask, "labels": labels, **kwargs}
        return super().forward(input_ids, **given)

    def _choose_attention(self, input_ids: Tensor | None) -> None:
        """Take the attention that is fastest for these documents, unless told otherwise."""
        if input_ids is not None:
            bert_attention.choose(self, input_ids)

    def vectors(
        self, input_ids: Tensor | None, attention_mask: Tensor | None, **kwargs: Any
    ) -> Tensor:
        """Give what the head stands on: a vector a document, shape ``(b, d)``."""
        kwargs["return_dict"] = True
        self._choose_attention(input_ids)
        hidden = self.bert(input_ids, attention_mask=attention_mask, **kwargs).last_hidden_state
        return mean(hidden, attention_mask) if self.takes_mean else hidden[:, 0]

    def head(self, vectors: Tensor) -> Tensor:
        """Give logits ``(b, c)`` of vectors ``(b, d)``."""
        if not self.takes_mean:
            pooler: Any = self.bert.pooler
            vectors = pooler(vectors[:, None])
        logits: Tensor = self.classifier(self.dropout(vectors))
        return logits
