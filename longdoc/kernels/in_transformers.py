"""transformers' own Mamba-family models on longdoc's kernels."""

import functools
import importlib
import threading
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


_replaced: dict[tuple[str, str], tuple[Function, Function, int]] = {}
"""By module and name: transformers' own function, ours, and how many have asked for it."""
_replacing = threading.Lock()


class InTransformers:
    """What was asked to be replaced, so that it can be put back; also a context manager.

    It stays replaced until all who asked for it have put it back.
    """

    def __init__(self) -> None:
        self._asked: list[tuple[Any, str]] = []
        self._ask_all()

    def _ask_all(self) -> None:
        for family in FAMILIES:
            name = f"transformers.models.{family}.modeling_{family}"
            try:
                module = importlib.import_module(name)
            except ImportError:
                continue
            for function, make in REPLACEMENTS.items():
                if getattr(module, function, None) is not None:
                    self._ask(module, function, make)

    def _ask(self, module: Any, function: str, make: Callable[[Function], Function]) -> None:
        key = (module.__name__, function)
        with _replacing:
            theirs, ours, asked = _replaced.get(key, (getattr(module, function), None, 0))
            ours = ours or make(theirs)
            setattr(module, function, ours)
            _replaced[key] = (theirs, ours, asked + 1)
        self._asked.append((module, function))

    def undo(self) -> None:
        """Put transformers' own functions back, if nobody else wants ours; once is enough."""
        while self._asked:
            module, function = self._asked.pop()
            key = (module.__name__, function)
            with _replacing:
                theirs, ours, asked = _replaced[key]
                if asked > 1:
                    _replaced[key] = (theirs, ours, asked - 1)
                    continue
                del _replaced[key]
                if getattr(module, function) is ours:  # not what somebody else put over it
                    setattr(module, function, theirs)

    def __enter__(self) -> "InTransformers":
        if not self._asked:  # entered again after it was left
            self._ask_all()
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
