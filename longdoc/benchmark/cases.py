"""What is measured: a backbone, a way to run it, a length.

Models have the shapes of the released checkpoints and random weights: speed does not depend on
what the weights are. LoRA is on all four projections of Mamba and on every
linear layer of GPT-Neo.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import peft
import torch
from transformers import GPTNeoConfig, GPTNeoForSequenceClassification, MambaConfig, MambaModel

from longdoc.adapters.lora import add_lora
from longdoc.backbones import MambaForSequenceClassification
from longdoc.backbones.classification import GPTNeoForSequenceClassification as BlockGPTNeo

System = Literal["longdoc", "transformers", "mambapy"]
Pass = Literal["forward", "step", "checkpointing"]
VOCABULARY = 1000
MAMBA_TARGETS = ["in_proj", "x_proj", "dt_proj", "out_proj"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing that is timed.

    Attributes:
        model: ``mamba-130m`` or ``gpt-neo-125m``.
        what: A forward pass, a training step with LoRA, or that with gradient checkpointing.
        tokens: Of each document in the batch; more than one makes a padded batch.
        layers: How many of the model's layers.
        dropout: LoRA's.
        keeps_memory: Whether the allocator has longdoc's settings, as in every longdoc run.
    """

    model: Literal["mamba-130m", "gpt-neo-125m"] = "mamba-130m"
    system: System = "longdoc"
    what: Pass = "forward"
    tokens: tuple[int, ...]
    bfloat16: bool = False
    layers: int = 24
    dropout: float = 0.0
    keeps_memory: bool = True

    def precision(self) -> str:
        """Name the precision."""
        return "bf16" if self.bfloat16 else "fp32"


def can_run(system: System) -> bool:
    """Say whether what a system needs is installed."""
    return system != "mambapy" or importlib.util.find_spec("mambapy") is not None


def build(case: Case) -> Callable[[], None]:
    """Build a case's model; gives a function that runs it once."""
    torch.manual_seed(0)
    model = _mamba(case) if case.model == "mamba-130m" else _gpt_neo(case)
    inputs = _documents(case.tokens)
    trains = case.what != "forward"
    model.train(trains)
    if case.what == "checkpointing":
        model.gradient_checkpointing_enable({"use_reentrant": False})

    def run() -> None:
        with (
            torch.set_grad_enabled(trains),
            torch.autocast("cpu", torch.bfloat16, enabled=case.bfloat16),
        ):
            outputs = model(**inputs, use_cache=False) if _is_theirs(case) else model(**inputs)
            result = outputs[0] if _is_theirs(case) else outputs.logits
        if trains:
            result.float().square().mean().backward()
            model.zero_grad(set_to_none=True)

    return run


def _is_theirs(case: Case) -> bool:
    return case.system != "longdoc"


def _documents(tokens: tuple[int, ...]) -> dict[str, torch.Tensor]:
    ids = torch.randint(1, VOCABULARY, (len(tokens), max(tokens)))
    if len(set(tokens)) == 1:
        return {"input_ids": ids}
    mask = (torch.arange(max(tokens)) < torch.tensor(tokens)[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def _mamba(case: Case) -> Any:
    config = MambaConfig(
        vocab_size=VOCABULARY, hidden_size=768, num_hidden_layers=case.layers, state_size=16,
        use_mambapy=case.system == "mambapy",
    )  # fmt: skip
    if not _is_theirs(case):
        model: Any = MambaForSequenceClassification(config)
        return (
            model
            if case.what == "forward"
            else add_lora(model, dropout=case.dropout, target_modules=MAMBA_TARGETS)
        )
    theirs: Any = MambaModel(config)
    if case.what == "forward":
        return theirs
    # peft refuses out_proj on transformers' mixer, so theirs has an adapter less to train.
    lora = peft.LoraConfig(r=16, lora_alpha=32, lora_dropout=case.dropout,
                           target_modules=MAMBA_TARGETS[:3])  # fmt: skip
    return peft.get_peft_model(theirs, lora)


def _gpt_neo(case: Case) -> Any:
    config = GPTNeoConfig(
        vocab_size=VOCABULARY, hidden_size=768, num_layers=case.layers, num_heads=12,
        attention_types=[[["global", "local"], case.layers // 2]], window_size=256,
        max_position_embeddings=max(2048, *case.tokens), pad_token_id=0,
    )  # fmt: skip
    kind: Any = GPTNeoForSequenceClassification if _is_theirs(case) else BlockGPTNeo
    model = kind(config)
    if case.what == "forward":
        return model
    if not _is_theirs(case):
        return add_lora(model, dropout=case.dropout)
    targets = ["q_proj", "k_proj", "v_proj", "out_proj", "c_fc", "c_proj"]
    lora = peft.LoraConfig(r=16, lora_alpha=32, lora_dropout=case.dropout, target_modules=targets)
    return peft.get_peft_model(model, lora)
