"""The causal convolution in tensor operations: ``k`` shifted products.

Letters as in ``reference.py``.
"""

from torch import Tensor
from torch.nn import functional as F

from longdoc.kernels.causal_conv1d import reference


def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    starts: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Convolve all tokens at once.

    Args and result are those of :func:`longdoc.kernels.causal_conv1d`.
    """
    if starts is not None:
        return reference.one_by_one(
            causal_conv1d, x, weight, bias, activation, initial_states, return_final_states, starts
        )
    k, length = weight.shape[1], x.shape[2]
    wide = reference.extended(x, k, initial_states)
    columns = weight.to(wide.dtype)[:, :, None].unbind(dim=1)
    y = wide[:, :, :length] * columns[0]
    for place in range(1, k):
        y = y.addcmul(wide[:, :, place : place + length], columns[place])
    if bias is not None:
        y = y + bias.to(y.dtype)[:, None]
    y = (F.silu(y) if activation else y).to(x.dtype)
    return (y, reference.final_states(x, k, initial_states)) if return_final_states else y
