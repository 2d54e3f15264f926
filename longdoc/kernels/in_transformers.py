"""transformers' own Mamba-family models on longdoc's kernels."""

import functools
import importlib
from collections.abc import Callable
from types import TracebackType
from typing import Any

from torch import Tensor

from longdoc.kernels.causal_conv1d import causal_conv1d
from longdoc.kernels.selective_scan import selective_scan

FAMILIES = ("mamba", "falcon_mamba", "jamba")
ACTIVATIONS = (None, "silu", "swish")

Function = Callable[..., Any]


def _scan_instead(theirs: Function) -> Function:
    @functools.wraps(theirs)
    def scan(
        hidden_states: Tensor,
        dt: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None = None,
        z: Tensor | None = None,
        delta_bias: Tensor | None = None,
        delta_softplus: bool = False,
        return_last_state: bool = False,
        **kwargs: Any,
    ) -> Any:
        arguments = (hidden_states, dt, A, B, C, D, z, delta_bias)
        options: dict[str, Any] = {
            "delta_softplus": delta_softplus,
            "return_last_state": return_last_state,
        }
        if hidden_states.device.type != "cpu":
            return theirs(*arguments, **options, **kwargs)
        return selective_scan(*arguments, **options)

    return scan


def _convolution_instead(theirs: Function) -> Function:
    @functools.wraps(theirs)
    def convolve(
        hidden_states: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        activation: str | None = None,
        **kwargs: Any,
    ) -> Any:
        serves = activation in ACTIVATIONS and weight.shape[1] in (2, 3, 4)
        if hidden_states.device.type != "cpu" or kwargs or not serves:
            return theirs(hidden_states, weight, bias, activation, **kwargs)
        return causal_conv1d(hidden_states, weight, bias, activation)

    return convolve


REPLACEMENTS = {"mamba_selective_scan": _scan_instead, "causal_conv1d_fn": _convolution_instead}


class InTransformers:
    """What was replaced, so that it can be put back; also a context manager."""

    def __init__(self) -> None:
        self._theirs: list[tuple[Any, str, Function]] = []
        for family in FAMILIES:
            name = f"transformers.models.{family}.modeling_{family}"
            try:
                module = importlib.import_module(name)
            except ImportError:
                continue
            for function, make in REPLACEMENTS.items():
                theirs = getattr(module, function, None)
                if theirs is not None and not hasattr(theirs, "_longdoc"):
                    ours: Any = make(theirs)
                    ours._longdoc = True
                    self._theirs.append((module, function, theirs))
                    setattr(module, function, ours)

    def undo(self) -> None:
        """Put transformers' own functions back; a second time does nothing."""
        while self._theirs:
            module, function, theirs = self._theirs.pop()
            setattr(module, function, theirs)

    def __enter__(self) -> "InTransformers":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.undo()


def use_in_transformers() -> InTransformers:
    """Let transformers' Mamba, FalconMamba and Jamba models on a CPU run on these kernels.

    Every such model in the process is served, made before or after. Projections are called as
    transformers calls them: for LoRA on all of them use :func:`longdoc.adapters.lora.add_lora`.
    transformers ignores the recurrent state when a cached document goes on with more than one
    token; that stays so.

    Returns:
        What was replaced: ``undo()`` puts it back, as the end of a ``with`` block does.

    Example:
        >>> import torch
        >>> from transformers import MambaConfig, MambaModel
        >>> model = MambaModel(MambaConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1))
        >>> with use_in_transformers():
        ...     model(torch.tensor([[1, 2, 3]])).last_hidden_state.shape
        torch.Size([1, 3, 8])
    """
    return InTransformers()
