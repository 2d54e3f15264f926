"""Which selective scan runs, and why."""

import importlib
import importlib.util

import torch
from torch import Tensor

from longdoc.kernels import native_library
from longdoc.kernels.documents import check_numbers, check_starts
from longdoc.kernels.exchange import Exchange
from longdoc.kernels.selective_scan import blocked, compiled


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    initial_state: Tensor | None = None,
    starts: Tensor | None = None,
    exchange: Exchange | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Run a selective state-space model over every document of a batch.

    Letters: ``b`` documents, ``d`` channels, ``l`` tokens, ``n`` states, ``g`` groups.

    Args:
        u: Input, shape ``(b, d, l)``, float32, bfloat16 or float64, any strides.
        delta: Step sizes before bias and softplus, shape ``(b, d, l)``.
        A: Rates, shape ``(d, n)``; negative ones forget.
        B: Input weights, shape ``(b, n, l)``, ``(b, g, n, l)``, or ``(d, n)`` for all tokens.
        C: Output weights, shaped as B may be.
        D: Skip weights, shape ``(d,)``.
        z: Gate, shape ``(b, d, l)``; the output is multiplied by ``silu(z)``.
        delta_bias: Added to ``delta``, shape ``(d,)``.
        delta_softplus: Whether the softplus of ``delta`` is the step.
        return_last_state: Whether the state after the last token is returned as well.
        initial_state: State before the first token, shape ``(b, d, n)``; zero without.
        starts: Where documents of unequal length begin that lie one after the other in a single
            row, ``b = 1`` (see :mod:`longdoc.kernels.documents`); states then have one row a
            document.
        exchange: What the compiled kernels of one layer leave for each other (see
            :mod:`longdoc.kernels.exchange`); the other variants do without.

    Returns:
        Outputs ``(b, d, l)`` of the type of ``u``; with ``return_last_state`` also the state
        ``(b, d, n)`` in float32 (float64 for float64 inputs).

    Raises:
        ValueError: A shape does not fit, or there is no document or no token.

    Source:
        gu2023mamba, Alg. 2. The signature follows the CUDA package's function.
    """
    check(u, delta, A, B, C)
    check_numbers(D=D, z=z, delta_bias=delta_bias, initial_state=initial_state)
    documents = u.shape[0] if starts is None else len(starts) - 1
    if starts is not None:
        check_starts(starts, u.shape[0], u.shape[2])
    check_options(u, A, D, z, delta_bias, initial_state, documents)
    serves = (
        native_library.available()
        and u.device.type == "cpu"
        and u.dtype != torch.float64
        and B.dim() > 2
        and C.dim() > 2
        and 0 < A.shape[1] <= compiled.MOST_STATES
    )
    arguments = (u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state)
    if serves:
        return compiled.selective_scan(*arguments, initial_state, starts, exchange)
    on_gpu = u.device.type == "cuda" and initial_state is None and starts is None
    if on_gpu and importlib.util.find_spec("mamba_ssm") is not None:
        # Not tried: the project's machines have no GPU. A, D and bias must be float32 there.
        interface = importlib.import_module("mamba_ssm.ops.selective_scan_interface")
        found: Tensor | tuple[Tensor, Tensor] = interface.selective_scan_fn(*arguments)
        return found
    return blocked.selective_scan(*arguments, initial_state, starts)


def check_options(
    u: Tensor,
    A: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    documents: int,
) -> None:
    """Refuse optional arguments whose shapes do not fit.

    Raises:
        ValueError: With the shape that was expected and the one that came.
    """
    d = u.shape[1]
    for name, part, shape in (
        ("D", D, (d,)),
        ("z", z, tuple(u.shape)),
        ("delta_bias", delta_bias, (d,)),
        ("initial_state", initial_state, (documents, d, A.shape[1])),
    ):
        if part is not None and tuple(part.shape) != shape:
            message = f"{name} must have shape {shape}; got {tuple(part.shape)}"
            raise ValueError(message)


def check(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> None:
    """Refuse shapes that do not fit together.

    Raises:
        ValueError: With the shape that was expected and the one that came.
    """
    check_numbers(u=u, delta=delta, A=A, B=B, C=C)
    if u.dim() != 3 or 0 in u.shape:
        message = f"u must have shape (b, d, l), none of them 0; got {tuple(u.shape)}"
        raise ValueError(message)
    b, d, length = u.shape
    if delta.shape != u.shape:
        message = f"delta must have the shape of u, {tuple(u.shape)}; got {tuple(delta.shape)}"
        raise ValueError(message)
    if A.dim() != 2 or A.shape[0] != d:
        message = f"A must have shape ({d}, n); got {tuple(A.shape)}"
        raise ValueError(message)
    n = A.shape[1]
    for name, part in (("B", B), ("C", C)):
        grouped = part.dim() == 4 and part.shape[1] > 0 and d % part.shape[1] == 0
        shapes = {2: (d, n), 3: (b, n, length), 4: (b, *part.shape[1:2], n, length)}
        if part.shape != shapes.get(part.dim()) or (part.dim() == 4 and not grouped):
            message = (
                f"{name} must have shape ({b}, {n}, {length}), ({b}, g, {n}, {length}) with g "
                f"dividing {d}, or ({d}, {n}); got {tuple(part.shape)}"
            )
            raise ValueError(message)
