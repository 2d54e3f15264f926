"""How a model is trained."""

import importlib.util
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    get_available_reporting_integrations,
)

from longdoc.adapters.placement import Preset
from longdoc.backbones.build import Start
from longdoc.errors import MissingPartError
from longdoc.settings import chosen, cited, require

Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How weights are learnt."""

    seed: int = chosen(0, "any fixed number; recorded with every run", unit="seed")
    """Seed of random weights, document order and dropout."""
    epochs: float = cited(
        20.0, "chalkidis2022lexglue", "repository, scripts/run_ecthr.sh", unit="passes"
    )
    """At most so many passes over the training documents."""
    patience: int = cited(
        3, "chalkidis2022lexglue", "repository, experiments/ecthr.py", unit="epochs"
    )
    """Training stops after so many epochs without a better validation metric; 0 means never."""
    batch_size: int = cited(
        16, "devlin2019bert", "App. A.3", unit="documents", note="the paper's grid is 16 and 32"
    )
    """Documents that go through the model at once, in each process."""
    accumulation: int = chosen(1, "a batch of 16 fits", unit="batches")
    """Batches whose gradients are added up before a step."""
    learning_rate: float | None = chosen(None, "by what is trained: one of the next six")
    """Peak learning rate; where it is not given, one of the next six is taken. The head may have
    another."""
    full_learning_rate: float = cited(
        3e-5,
        "chalkidis2022lexglue",
        "repository, scripts/run_ecthr.sh",
        note="devlin2019bert, App. A.3, has 5e-5, 3e-5, 2e-5; gu2023mamba, App. E.3.4, 1e-4",
    )
    """Peak rate when every weight of a pretrained backbone wider than 256 is trained."""
    small_learning_rate: float = chosen(
        3e-4,
        "the best of four for bert-mini and gpt-neo-mini on validation, "
        "docs/results/learning-rate.md",
        note="turc2019students, README of the released miniatures: 3e-4 is the largest of its grid",
    )
    """Peak rate when every weight of a pretrained backbone of width 256 or less is trained."""
    lora_learning_rate: float = cited(
        5e-4,
        "hu2022lora",
        "authors' code, examples/NLU/roberta_base_mnli.sh",
        note="biderman2024lora, Sec. 4: ten times the full rate, 5e-5 to 5e-4; MambaPEFT's and "
        "ssm-peft's code: 1e-3",
    )
    """Peak rate for LoRA, and for the head alone."""
    small_lora_learning_rate: float = chosen(
        1e-3,
        "the best of four for bert-mini and gpt-neo-mini on validation, "
        "docs/results/learning-rate.md",
    )
    """Peak rate for LoRA on a pretrained backbone of width 256 or less."""
    small_mamba_learning_rate: float = chosen(
        3e-3,
        "the best of four for mamba-mini on validation, every weight and LoRA, "
        "docs/results/learning-rate.md",
    )
    """Peak rate instead of both where such a backbone is a Mamba."""
    scratch_learning_rate: float = chosen(
        1e-3, "small models with random weights; see docs/experiment-log.md"
    )
    """Peak rate when every weight starts at random."""
    head_learning_rate: float | None = chosen(
        None, "the next on small pretrained backbones, elsewhere one rate for all, as is usual"
    )
    """Peak rate of the head, which starts at random; where it is not given, the next or that of the
    rest."""
    small_head_learning_rate: float = chosen(
        1e-2,
        "on 1,000 Reuters documents LoRA is better with it by 0.04 (mamba-mini) and 0.34 "
        "(bert-mini), validation, one seed; docs/experiment-log.md, 2026-11-26",
    )
    """Peak rate of the head on a pretrained backbone of width 256 or less, if it is one linear
    layer and not trained alone at a learning rate that was given."""
    schedule: Literal["linear", "cosine", "constant"] = cited(
        "linear", "devlin2019bert", "App. A.2", note="as in the authors' fine-tuning code"
    )
    """How the rate falls after the warm-up."""
    warmup: float = cited(
        0.1, "devlin2019bert", "authors' code, run_classifier.py", unit="share of all steps"
    )
    """How much of training the rate rises for."""
    weight_decay: float = cited(0.01, "devlin2019bert", "App. A.2")
    """Decoupled weight decay (loshchilov2019adamw), not on biases and norms."""
    beta1: float = cited(0.9, "devlin2019bert", "App. A.2")
    """AdamW's decay of the mean gradient."""
    beta2: float = cited(
        0.999, "devlin2019bert", "App. A.2", note="gu2023mamba pretrains with 0.95"
    )
    """AdamW's decay of the mean squared gradient."""
    max_grad_norm: float = cited(
        1.0, "gu2023mamba", "App. E.2.1", note="the method: pascanu2013difficulty, Sec. 3.2"
    )
    """Gradients longer than this are scaled down to it."""
    group_by_length: bool = chosen(True, "less padding; the original notes do so as well")
    """Whether documents of similar length share a step."""
    precision: Precision = chosen(
        "auto", "bfloat16 where the processor multiplies it, else float32"
    )
    """Number format of matrix products; weights stay float32."""
    metric: Literal["micro-f1", "macro-f1"] = cited(
        "micro-f1", "chalkidis2022lexglue", "repository, scripts/run_ecthr.sh",
        note="there at 0.5; here at the best global threshold: early scores stay below 0.5",
    )  # fmt: skip
    """Validation metric that stops training and picks the checkpoint."""
    checkpoint_minutes: float = chosen(5.0, "what one is willing to lose", unit="minutes")
    """A checkpoint is written after each epoch, and after so many minutes within one."""
    report_to: str = chosen("none", "the run folder keeps the history")
    """Also report to a tracker that transformers knows: tensorboard, wandb, mlflow, trackio."""

    def __post_init__(self) -> None:
        check(self)


def check(settings: TrainingSettings) -> None:
    """Refuse numbers out of range.

    Raises:
        SettingsError: Naming the setting, what is allowed, and what was given.
    """
    for name in ("epochs", "batch_size", "accumulation", "max_grad_norm", "checkpoint_minutes"):
        require(getattr(settings, name) > 0, f"training.{name}", "above 0", getattr(settings, name))
    for name in ("patience", "weight_decay", "seed"):
        require(
            getattr(settings, name) >= 0, f"training.{name}", "0 or more", getattr(settings, name)
        )
    for name in ("warmup", "beta1", "beta2"):
        value = getattr(settings, name)
        require(0 <= value < 1, f"training.{name}", "in 0..1, 1 excluded", value)
    for name in (
        "learning_rate",
        "full_learning_rate",
        "small_learning_rate",
        "lora_learning_rate",
        "small_lora_learning_rate",
        "small_mamba_learning_rate",
        "scratch_learning_rate",
        "head_learning_rate",
        "small_head_learning_rate",
    ):
        rate = getattr(settings, name)
        require(rate is None or rate > 0, f"training.{name}", "above 0", rate)


def check_report(settings: TrainingSettings) -> None:
    """Refuse a place to report to that nobody knows, before a training begins.

    Raises:
        SettingsError: Nobody does.
        MissingPartError: It is not installed.
    """
    report_to = settings.report_to
    known = ("none", "all", *INTEGRATION_TO_CALLBACK)
    require(report_to in known, "training.report_to", ", ".join(known), report_to)
    # Of these two the list does not say it for sure.
    packages = {"azure_ml": "azureml", "flyte": "flytekit"}
    there = {name for name, package in packages.items() if importlib.util.find_spec(package)}
    if report_to not in ("none", "all", *there, *get_available_reporting_integrations()):
        message = f"training.report_to {report_to} needs a package of that name; install it"
        raise MissingPartError(message)


def learning_rate(settings: TrainingSettings, preset: Preset, start: Start, family: str) -> float:
    """Give the peak rate for what is trained, and what it starts from.

    Args:
        settings: How it is trained.
        preset: What is trained.
        start: What the backbone starts from.
        family: The backbone's ``model_type``.
    """
    if settings.learning_rate is not None:
        return settings.learning_rate
    if start == "small" and family == "mamba":
        return settings.small_mamba_learning_rate
    if preset != "none":
        small = start == "small"
        return settings.small_lora_learning_rate if small else settings.lora_learning_rate
    rates = {
        "random": settings.scratch_learning_rate,
        "small": settings.small_learning_rate,
        "large": settings.full_learning_rate,
    }
    return rates[start]


def head_rate(
    settings: TrainingSettings, preset: Preset, start: Start, *, one_layer: bool
) -> float | None:
    """Give the head's peak rate, where it is not that of the rest.

    Args:
        settings: How it is trained.
        preset: What else is trained.
        start: What the backbone starts from.
        one_layer: Whether the head is a linear layer alone. BERT's pooler, which stands between in
            other heads, may come with the weights, and suffers at a small head's rate.
    """
    if settings.head_learning_rate is not None:
        return settings.head_learning_rate
    told = preset == "head-only" and settings.learning_rate is not None
    if told or start != "small" or not one_layer:
        return None
    return settings.small_head_learning_rate


def uses_bfloat16(precision: Precision) -> bool:
    """Say whether matrix products run in bfloat16."""
    if precision != "auto":
        return precision == "bfloat16"
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return processor_has_bfloat16()


def processor_has_bfloat16() -> bool:
    """Say whether the processor multiplies bfloat16 matrices (AVX512-BF16 or AMX; Linux only)."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
