"""The head of a classifier by itself, trained on what a frozen backbone says of documents.

Letters: ``b`` documents in the batch, ``d`` width of a vector, ``m`` logits.
"""

from typing import Any

from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput


class HeadOnVectors(nn.Module):
    """The head of a classifier by itself, on vectors of a frozen backbone.

    Args:
        model: The classifier; its head is trained in place.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.config = model.config
        trained = [part for part in model.modules() if _is_trained(part)]
        self.parts = nn.ModuleList(trained)
        self._whole = [model]  # in a list, so that the backbone is no part of this module

    def train(self, mode: bool = True) -> "HeadOnVectors":
        """Switch dropout on or off."""
        if self._whole[0].training != mode:  # asked for at every step, of every part of a backbone
            self._whole[0].train(mode)
        return super().train(mode)

    def forward(self, vectors: Tensor) -> SequenceClassifierOutput:
        """Give logits ``(b, m)`` of vectors ``(b, d)``."""
        return SequenceClassifierOutput(logits=self._whole[0].head(vectors))


def _is_trained(part: nn.Module) -> bool:
    own = list(part.parameters(recurse=False))
    return bool(own) and all(parameter.requires_grad for parameter in own)
