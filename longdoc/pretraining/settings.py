"""What a backbone is pretrained on, and how."""

from dataclasses import dataclass, field
from typing import Literal

from longdoc.backbones.settings import BackboneSettings
from longdoc.settings import chosen, cited, require
from longdoc.training.settings import Precision


@dataclass(frozen=True, kw_only=True)
class TextSettings:
    """Which texts."""

    sources: tuple[str, ...] = chosen(("python-imports",), "the one that needs no download")
    """Catalogue names, of which the training split is read, or paths of text, JSON Lines, CSV or
    Parquet files or of folders with such files."""
    passes: tuple[float, ...] = chosen((), "every text once")
    """How often each source is read; one number a source, fractions draw documents."""
    text_field: str | None = chosen(None, "the usual names: text, paragraphs, facts ...")
    """Tables: the column that holds the text."""
    split_field: str | None = chosen(None, "split, if there is one")
    """Tables: the column that says train, validation or test; only train is learnt from."""
    held_out_share: float = chosen(
        0.02, "enough for a curve, and little is lost to learning",
        unit="share of documents",
    )  # fmt: skip
    """Files without splits: so much is kept for validation, and as much for the test."""
    also_measure: tuple[str, ...] = chosen((), "the sources' own test documents are enough")
    """Sources of which the test documents are measured as well; nothing is learnt from them."""
    measured_tokens: int = chosen(
        200_000, "measured in seconds for a small backbone", unit="tokens"
    )
    """About so many held-out tokens of each source are measured at most: whole documents are."""
    vocabulary: int = chosen(
        8192, "a quarter of GPT-2's would fill a backbone of 3 million parameters", unit="entries"
    )
    """Entries of the byte-level BPE tokenizer that is trained first."""
    tokenizer: str | None = chosen(
        None, "a backbone with weights keeps its own; one without gets one trained on these texts"
    )
    """Folder of a tokenizer to use instead; for backbones that start at random."""

    def __post_init__(self) -> None:
        require(bool(self.sources), "texts.sources", "at least one", self.sources)
        together = (*self.sources, *self.also_measure)
        once = "each name once in both, as the test documents of sources are measured anyway"
        distinct = len(set(together)) == len(together)
        require(distinct, "texts.sources, texts.also_measure", once, together)
        fits = not self.passes or len(self.passes) == len(self.sources)
        require(fits, "texts.passes", f"{len(self.sources)} numbers, one a source", self.passes)
        positive = all(0 < passes <= 1000 for passes in self.passes)
        require(positive, "texts.passes", "above 0 and at most 1000", self.passes)
        share = self.held_out_share
        require(0 < share < 0.5, "texts.held_out_share", "between 0 and 0.5", share)
        small = "at least 300, for 256 bytes and the special tokens"
        require(self.vocabulary >= 300, "texts.vocabulary", small, self.vocabulary)
        tokens = self.measured_tokens
        require(tokens > 0, "texts.measured_tokens", "above 0", tokens)


@dataclass(frozen=True, kw_only=True)
class LearningSettings:
    """How weights are learnt from raw text."""

    seed: int = chosen(0, "any fixed number; recorded with every run", unit="seed")
    """Seed of first weights, order of documents and masks."""
    piece_tokens: int | None = chosen(
        None, "2,048 for causal backbones and 512 for BERT: what the published ones were trained on"
    )
    """Longer documents are cut into pieces of so many tokens."""
    step_tokens: int = chosen(
        4096, "better than 8,192 after as many tokens: docs/experiment-log.md", unit="tokens"
    )
    """Tokens an optimizer step takes."""
    optimizer: Literal["adamw", "muon"] = chosen(
        "adamw", "what the backbones' own papers train with; after a million tokens GPT-Neo and "
        "BERT have learnt far more with muon, Mamba has not: docs/experiment-log.md"
    )  # fmt: skip
    """adamw trains every weight with AdamW; muon trains linear layers with Muon, which makes their
    updates nearly orthogonal, and the rest with AdamW."""
    muon_learning_rate: float = cited(0.02, "jordan2024muon", "README, Usage")
    """Muon's peak rate, for linear layers; falls as AdamW's does."""
    learning_rate: float | None = chosen(None, "by family: one of the next two")
    """Peak rate; falls as a cosine."""
    mamba_learning_rate: float = cited(
        3e-3, "gu2023mamba", "App. E.2.1 and Table 12",
        note="five times the 6e-4 that GPT-3's smallest model has",
    )  # fmt: skip
    """Peak rate for Mamba where none is given."""
    attention_learning_rate: float = chosen(
        1e-3, "better than 3e-3 for GPT-Neo and BERT in short trials: docs/experiment-log.md"
    )
    """Peak rate for GPT-Neo, Llama and BERT where none is given."""
    final_rate: float = chosen(
        0.01, "near zero; gu2023mamba, App. E.2.1, ends at 1e-5", unit="of the peak"
    )
    """Where the rate ends, as a share of its peak."""
    warmup: float = chosen(
        0.05, "some hundred steps of a small training, as the rate is high",
        unit="share of all steps",
    )  # fmt: skip
    """How much of training the rate rises for."""
    weight_decay: float = cited(0.1, "gu2023mamba", "App. E.2.1")
    """Decoupled weight decay, not on biases, norms, A and D."""
    beta1: float = cited(0.9, "gu2023mamba", "App. E.2.1")
    """AdamW's decay of the mean gradient."""
    beta2: float = cited(0.95, "gu2023mamba", "App. E.2.1")
    """AdamW's decay of the mean squared gradient."""
    max_grad_norm: float = cited(1.0, "gu2023mamba", "App. E.2.1")
    """Gradients longer than this are scaled down to it."""
    mask_share: float = cited(
        0.15, "devlin2019bert", "Sec. 3.1",
        note="of these 80 % become the mask token, 10 % another token, 10 % stay",
    )  # fmt: skip
    """BERT: the share of tokens that is to be predicted."""
    precision: Precision = chosen(
        "auto", "bfloat16 where the processor multiplies it, else float32"
    )
    """Number format of matrix products while learning; weights are float32."""
    saved_as: Precision = chosen(
        "bfloat16", "half the size; perplexity is measured on what is saved"
    )
    """Number format of the weights that are saved."""
    points: int = chosen(20, "a curve one can see", unit="measurements")
    """How often held-out perplexity is measured on the way."""
    checkpoint_minutes: float = chosen(5.0, "what one is willing to lose", unit="minutes")
    """A checkpoint is written after so many minutes."""

    def __post_init__(self) -> None:
        piece = self.piece_tokens
        require(piece is None or piece >= 8, "learning.piece_tokens", "at least 8", piece)
        rates = ("learning_rate", "mamba_learning_rate", "attention_learning_rate")
        others = ("muon_learning_rate", "step_tokens", "max_grad_norm", "checkpoint_minutes")
        for name in (*rates, *others):
            value = getattr(self, name)
            require(value is None or value > 0, f"learning.{name}", "above 0", value)
        for name in ("seed", "weight_decay", "points"):
            value = getattr(self, name)
            require(value >= 0, f"learning.{name}", "0 or more", value)
        for name in ("warmup", "beta1", "beta2"):
            value = getattr(self, name)
            require(0 <= value < 1, f"learning.{name}", "in 0..1, 1 excluded", value)
        final, masked = self.final_rate, self.mask_share
        require(0 <= final <= 1, "learning.final_rate", "in 0..1", final)
        require(0 < masked < 1, "learning.mask_share", "between 0 and 1", masked)
        require(self.saved_as != "auto", "learning.saved_as", "float32 or bfloat16", self.saved_as)


def peak_rate(settings: LearningSettings, family: str) -> float:
    """Give the peak learning rate for a family."""
    if settings.learning_rate is not None:
        return settings.learning_rate
    if family == "mamba":
        return settings.mamba_learning_rate
    return settings.attention_learning_rate


@dataclass(frozen=True, kw_only=True)
class PretrainingSettings:
    """What a pretraining is made of."""

    backbone: BackboneSettings = field(default_factory=BackboneSettings)
    texts: TextSettings = field(default_factory=TextSettings)
    learning: LearningSettings = field(default_factory=LearningSettings)
