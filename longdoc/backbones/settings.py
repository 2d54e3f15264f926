"""Which backbone, and how it reads a document."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from longdoc.settings import chosen

Pooling = Literal["auto", "first", "last", "mean"]
ATTENTION_DROPOUT: Mapping[str, str] = {
    "bert": "attention_probs_dropout_prob",
    "gpt_neo": "attention_dropout",
    "llama": "attention_dropout",
}
"""What each family calls it."""


@dataclass(frozen=True, kw_only=True)
class BackboneSettings:
    """Which backbone."""

    name: str = chosen("mamba-mini", "trains on a CPU in minutes and needs no hub")
    """A catalogue name (see `longdoc explain backbone.name`), a local folder, or a hub name of the
    Mamba, GPT-Neo, BERT or Llama family."""
    revision: str | None = chosen(None, "the hub's main branch; pin a commit for a paper")
    """Which revision of a hub checkpoint."""
    pretrained: bool = chosen(True, "what a model has read before is what an adapter adapts")
    """Whether training starts from the backbone's weights; without, from random ones of its shape.
    A small backbone then gets a tokenizer of its own too (tokens.vocabulary)."""
    pooling: Pooling = chosen(
        "auto", "what the backbone was trained with; the mean where that is neither"
    )
    """Which vector of a document the classifier gets. last: of the last token, all that a causal
    backbone can do. BERT: first, of [CLS] through its pooler, or mean, of all tokens. auto: what
    the card of the backbone says."""
    attention_dropout: float | None = chosen(
        None,
        "the checkpoint's own, 0.1 for BERT; at 0 it trains 2 % faster on a CPU: "
        "docs/experiment-log.md",
        unit="probability",
    )
    """How often an attention weight is set to zero in training; Mamba has none."""
    gradient_checkpointing: bool = chosen(
        False, "costs a third more time; for lengths that do not fit"
    )
    """Whether activations are computed again in the backward pass instead of kept."""
