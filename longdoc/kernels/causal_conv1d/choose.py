"""Which causal convolution runs, and why."""

import importlib
import importlib.util

import torch
from torch import Tensor

from longdoc.kernels import native_library
from longdoc.kernels.causal_conv1d import blocked, compiled
from longdoc.kernels.documents import check_numbers, check_starts
from longdoc.kernels.exchange import Exchange


def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    starts: Tensor | None = None,
    exchange: Exchange | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Convolve each channel over the last tokens.

    Letters: ``b`` documents, ``d`` channels, ``l`` tokens, ``k`` tokens a sum goes over.

    Args:
        x: Shape ``(b, d, l)``, float32, bfloat16 or float64, any strides.
        weight: Shape ``(d, k)``, k = 2, 3 or 4; the last column belongs to the token itself.
        bias: Shape ``(d,)``.
        activation: None, ``"silu"`` or ``"swish"`` (another name of the same).
        initial_states: The ``k - 1`` tokens before the first, ``(b, d, k - 1)``; zero without.
        return_final_states: Whether the last ``k - 1`` tokens are returned as well.
        starts: Where documents of unequal length begin that lie one after the other in a single
            row, ``b = 1`` (see :mod:`longdoc.kernels.documents`).
        exchange: What the compiled kernels of one layer leave for each other (see
            :mod:`longdoc.kernels.exchange`); the other variant does without.

    Returns:
        Shape ``(b, d, l)``, the type of ``x``; with ``return_final_states`` also
        ``(b, d, k - 1)``, from which a document goes on.

    Raises:
        ValueError: A shape does not fit, or there is no document or no token.

    Source:
        gu2023mamba, Sec. 3.4. The signature follows the CUDA package's function.
    """
    check(x, weight, bias, activation)
    documents = x.shape[0] if starts is None else len(starts) - 1
    if starts is not None:
        check_starts(starts, x.shape[0], x.shape[2])
    shape = (documents, x.shape[1], weight.shape[1] - 1)
    check_numbers(initial_states=initial_states)
    if initial_states is not None and initial_states.shape != shape:
        message = f"initial_states must have shape {shape}; got {tuple(initial_states.shape)}"
        raise ValueError(message)
    serves = (
        native_library.available()
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16)
    )
    plain = initial_states is None and starts is None and not return_final_states
    if x.device.type == "cuda" and plain and importlib.util.find_spec("causal_conv1d") is not None:
        # Not tried: the project's machines have no GPU.
        found: Tensor = importlib.import_module("causal_conv1d").causal_conv1d_fn(
            x, weight, bias, activation=activation
        )
        return found
    arguments = (x, weight, bias, activation, initial_states, return_final_states, starts)
    if serves:
        return compiled.causal_conv1d(*arguments, exchange)
    return blocked.causal_conv1d(*arguments)


def check(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None) -> None:
    """Refuse what does not fit together.

    Raises:
        ValueError: With what was expected and what came.
    """
    check_numbers(x=x, weight=weight, bias=bias)
    if x.dim() != 3 or 0 in x.shape:
        message = f"x must have shape (b, d, l), none of them 0; got {tuple(x.shape)}"
        raise ValueError(message)
    d = x.shape[1]
    if weight.dim() != 2 or weight.shape[0] != d or weight.shape[1] not in (2, 3, 4):
        message = f"weight must have shape ({d}, k) with k = 2, 3 or 4; got {tuple(weight.shape)}"
        raise ValueError(message)
    if bias is not None and bias.shape != (d,):
        message = f"bias must have shape ({d},); got {tuple(bias.shape)}"
        raise ValueError(message)
    if activation not in (None, "silu", "swish"):
        message = f'activation must be None, "silu" or "swish"; got {activation!r}'
        raise ValueError(message)
