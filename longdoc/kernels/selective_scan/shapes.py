"""Shapes that the compiled scan takes and gives. Letters as in ``reference.py``."""

from typing import Any

from torch import Tensor

from longdoc.kernels.native_library import MOST_STATES, SPAN


def shapes_of(
    u: Tensor, A: Tensor, starts: Tensor | None, keep: bool
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Give the shapes of the last states and, with ``keep``, of those that are kept."""
    b, length, d = u.shape
    documents = b if starts is None else starts.shape[0] - 1
    n = A.shape[1]
    # As many as there can be, whatever the documents' lengths.
    spans = b * length // SPAN + documents if keep else 0
    return (documents, d, n), (spans, d, n)


def check_kept(states: Tensor, u: Tensor, A: Tensor, starts: Tensor | None) -> None:
    """Refuse kept states that the kernel would read beyond."""
    wanted = shapes_of(u, A, starts, keep=True)[1]
    if tuple(states.shape) != wanted:
        message = f"states must have shape {wanted}, as keep makes them; got {tuple(states.shape)}"
        raise ValueError(message)


def check_inputs(inputs: dict[str, Any]) -> None:
    """Refuse shapes that the kernel would read beyond."""
    u, A, B = (inputs[name] for name in ("u", "A", "B"))
    b, length, d = u.shape
    n, documents = A.shape[-1], len(inputs["starts"]) - 1
    wide = (b, length, B.shape[2], n) if B.dim() == 4 else (b, length, "g", n)
    shapes = {
        "delta": (b, length, d), "z": (b, length, d), "A": (d, n), "B": wide, "C": wide,
        "D": (d,), "bias": (d,), "initial": (documents, d, n),
    }  # fmt: skip
    for name, shape in shapes.items():
        part = inputs[name]
        if part is not None and tuple(part.shape) != shape:
            message = f"{name} must have shape {shape}; got {tuple(part.shape)}"
            raise ValueError(message)
    groups = B.shape[2]
    if not 0 < n <= MOST_STATES or not groups or d % groups:
        message = (
            f"states must be 1 to {MOST_STATES}, and groups divide {d} channels; got {n}, {groups}"
        )
        raise ValueError(message)
