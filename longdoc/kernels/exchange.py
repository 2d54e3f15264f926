"""What the kernels of one layer leave for each other, so that nothing is made or moved twice.

Letters: ``b`` documents, ``l`` tokens, ``d`` channels.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from longdoc.kernels import twice


class Gradients:
    """A place for the gradients of both halves of one tensor, side by side.

    Attributes:
        whole: Shape ``(b, l, 2 d)``. The scan leaves the second half there, the convolution the
            first, and :func:`halves` hands on the whole without putting it together.
    """

    def __init__(self) -> None:
        self.whole: Tensor | None = None

    def first(self, x: Tensor) -> Tensor | None:
        """Give the place of the first half, if there is one that fits ``x``."""
        wide = (*x.shape[:2], 2 * x.shape[2])
        if self.whole is None or self.whole.shape != wide or self.whole.dtype != x.dtype:
            return None
        return self.whole[:, :, : x.shape[2]]


class Exchange:
    """One pass of one layer, forward and back.

    It belongs to whoever may run the layer again, such as ``torch.utils.checkpoint``; what autograd
    keeps refers to the place for gradients alone, so the states go when nobody can run it again.

    Attributes:
        states: What the scan kept when it went forward. Where they are there already the pass is a
            recomputation: the scan then takes them and does not scan again; its output, which
            nobody reads in a recomputation, is left as zeros.
        gradients: See :class:`Gradients`.
    """

    def __init__(self) -> None:
        self.states: Tensor | None = None
        self.gradients = Gradients()
        self._seen: tuple[dict[str, tuple[Tensor, int]], object] | None = None

    def check_same(self, what: str, parts: Mapping[str, Tensor], state: object = None) -> None:
        """Refuse to compute again with other parameters than the first time.

        Autograd looks after what it keeps; what is computed again would silently be another.

        Args:
            what: The layer, for the message.
            parts: Every parameter that is computed with, by name.
            state: Anything else that must be the same, such as which adapter is active.

        Raises:
            RuntimeError: Which parameter was changed, or exchanged.
        """
        now = {name: (part, _version(part)) for name, part in parts.items()}
        if self._seen is None:
            self._seen = now, state
            return
        before, then = self._seen
        # FSDP shows some only while it goes forward: what is missing is not known to have changed.
        changed = [
            name
            for name, (part, version) in now.items()
            if name in before and not (before[name][0] is part and before[name][1] == version)
        ]
        if changed or then != state:
            message = (
                f"{changed[0] if changed else 'what is active'} of a {what} was changed after the "
                "forward pass whose backward pass this is (optimizer.step(), another adapter, a "
                "merge, functional_call); parts of a layer are computed again on the way back, "
                "and gradients would be wrong: call backward first, or go forward again"
            )
            raise RuntimeError(message)


def _version(x: Tensor) -> int:
    # Tensors of inference mode count no changes.
    return 0 if x.is_inference() else x._version


def halves(both: Tensor, exchange: Exchange) -> tuple[Tensor, Tensor]:
    """Give both halves of ``(b, l, 2 d)``; gradients that lie side by side are not copied."""
    found: tuple[Tensor, Tensor] = _Halves.apply(both, exchange.gradients)  # type: ignore[no-untyped-call]
    return found


class _Halves(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, both: Tensor, gradients: Gradients) -> tuple[Tensor, Tensor]:
        ctx.gradients = gradients
        first, second = both.chunk(2, dim=2)
        return first, second

    @staticmethod
    def backward(ctx: Any, first: Tensor, second: Tensor) -> tuple[Tensor, None]:
        whole, ctx.gradients.whole = ctx.gradients.whole, None
        if (
            whole is not None
            and not twice.wanted(first, second)
            and _is_whole(whole, first, second)
        ):
            return whole, None
        return torch.cat([first, second], dim=2), None


def _is_whole(whole: Tensor, first: Tensor, second: Tensor) -> bool:
    parts = whole.chunk(2, dim=2)
    return all(
        part.data_ptr() == given.data_ptr()
        and part.stride() == given.stride()
        and part.shape == given.shape
        for part, given in zip(parts, (first, second), strict=True)
    )
