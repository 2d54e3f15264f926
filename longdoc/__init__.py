"""Compare Mamba, GPT-Neo, BERT and simple baselines at classifying long documents.

The names below are the whole public interface; they are loaded when they are first used.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from longdoc.api import (
        Comparison,
        MambaForSequenceClassification,
        Prediction,
        Run,
        Settings,
        Sweep,
        compare,
        load_dataset,
        load_model,
        load_run,
        predict,
        pretrain,
        sweep,
        train,
        write_report,
    )

__all__ = [
    "Comparison",
    "MambaForSequenceClassification",
    "Prediction",
    "Run",
    "Settings",
    "Sweep",
    "compare",
    "load_dataset",
    "load_model",
    "load_run",
    "predict",
    "pretrain",
    "sweep",
    "train",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    if name in __all__:
        return getattr(importlib.import_module("longdoc.api"), name)
    message = f"module 'longdoc' has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    """List the public names."""
    return [*globals(), *__all__]


if "_longdoc_command" not in sys.modules:
    importlib.import_module(
        "longdoc.backbones"
    )  # makes AutoModelForSequenceClassification know Mamba
