"""Products of bfloat16 inside code that is not ours."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from longdoc.kernels.bfloat16 import choose


class FastProducts(TorchDispatchMode):
    """While it is entered, torch's products of bfloat16 matrices go our way where that is faster.

    Only products that are operators of their own: ``mm`` and ``addmm``, not those within others.

    Example:
        >>> x = torch.ones(8, 2, dtype=torch.bfloat16)
        >>> with FastProducts():
        ...     (x @ x.T)[0, 0]
        tensor(2., dtype=torch.bfloat16)
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operator."""
        product, sum_with = torch.ops.aten.mm.default, torch.ops.aten.addmm.default
        if func in (product, sum_with) and choose.serves(*args):
            if func is product:
                return choose.multiply(*args)
            if len(args[1]) >= choose.FEWEST:
                return _added(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _added(to: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    found = (beta * to).expand(left.shape[0], right.shape[1]).contiguous()
    choose.add(found, left, right, float(alpha))
    return found
