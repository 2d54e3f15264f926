"""Mamba with projections that are called as modules, and its document classifier.

Letters: ``b`` documents in the batch, ``l`` tokens, ``d`` inner channels, ``n`` states.

transformers' mixer reads ``dt_proj.weight`` and, on a GPU in training, the weights of ``x_proj``
and ``out_proj``, without calling the modules; an adapter on them then has no effect. Ours calls
all four, and runs the scan of ``longdoc.kernels``.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from transformers import Cache, MambaConfig
from transformers.models.mamba.modeling_mamba import MambaMixer, MambaModel, MambaPreTrainedModel

from longdoc.backbones.classification import LastTokenClassification
from longdoc.kernels import selective_scan


class ModularMambaMixer(MambaMixer):
    """transformers' Mamba mixer, its parameters unchanged, every projection called as a module."""

    def forward(
        self,
        hidden_states: Tensor,
        cache_params: Cache | None = None,
        attention_mask: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        """Mix tokens.

        Args:
            hidden_states: Shape ``(b, l, hidden)``.
            cache_params: States to continue from and to update.
            attention_mask: 1 for real tokens, shape ``(b, l)``; padding leaves the state as it is.

        Returns:
            Shape ``(b, l, hidden)``.

        Source:
            gu2023mamba, Sec. 3.4 and Alg. 2.
        """
        u, gate = self.in_proj(_masked(hidden_states, attention_mask)).chunk(2, dim=-1)
        u = _masked(self._convolve(u, cache_params), attention_mask)
        sizes = [self.time_step_rank, self.ssm_state_size, self.ssm_state_size]
        step, B, C = self.x_proj(u).split(sizes, dim=-1)  # noqa: N806
        before = None
        if cache_params is not None:
            before = cache_params.get_recurrent_state(self.layer_idx, state_idx=0)
        scanned = selective_scan(
            u.transpose(1, 2),
            self.dt_proj(step).transpose(1, 2),
            -torch.exp(self.A_log.float()),
            B.transpose(1, 2),
            C.transpose(1, 2),
            self.D.float(),
            z=gate.transpose(1, 2),
            delta_softplus=True,
            return_last_state=True,
            initial_state=before,
        )
        if cache_params is not None:
            cache_params.update_recurrent_state(scanned[1].to(u.dtype), self.layer_idx)
        output: Tensor = self.out_proj(scanned[0].transpose(1, 2).to(hidden_states.dtype))
        return output

    def _convolve(self, u: Tensor, cache_params: Cache | None) -> Tensor:
        """Convolve each channel over the last few tokens, then activate, ``(b, l, d)``."""
        length = u.shape[1]
        if cache_params is not None:
            width = self.conv_kernel_size
            whole = cache_params.update_conv_state(
                u.transpose(1, 2), self.layer_idx, conv_kernel_size=width
            )
            u = whole.transpose(1, 2)
        return self.act(
            causal_convolution(u, self.conv1d.weight[:, 0], self.conv1d.bias)[:, -length:]
        )


def causal_convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve each channel with the tokens before it.

    Args:
        x: Shape ``(b, l, d)``, channels side by side.
        weight: Shape ``(d, k)``; the last column belongs to the token itself.
        bias: Shape ``(d,)``.

    Returns:
        Shape ``(b, l, d)``, the type of ``x``.
    """
    width = weight.shape[1]
    padded = F.pad(x, (0, 0, width - 1, 0))
    columns = weight.to(x.dtype).unbind(dim=1)
    total = padded[:, : x.shape[1]] * columns[0]
    for place in range(1, width):
        total = torch.addcmul(total, padded[:, place : place + x.shape[1]], columns[place])
    return total if bias is None else total + bias.to(x.dtype)


def _masked(x: Tensor, attention_mask: Tensor | None) -> Tensor:
    if attention_mask is None:
        return x
    return x * attention_mask[:, -x.shape[1] :, None].to(x.dtype)


def use_modular_mixers(model: nn.Module) -> nn.Module:
    """Let every Mamba mixer call its projections as modules; weights stay as they are."""
    for module in model.modules():
        if type(module) is MambaMixer:
            module.__class__ = ModularMambaMixer
    return model


class MambaForSequenceClassification(LastTokenClassification, MambaPreTrainedModel):
    """Mamba with a linear layer on the state of the last real token.

    Registered with ``AutoModelForSequenceClassification`` when longdoc is imported; loads
    ``state-spaces/mamba-*-hf`` checkpoints.

    Example:
        >>> config = MambaConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_labels=3)
        >>> MambaForSequenceClassification(config)(torch.tensor([[1, 2, 3]])).logits.shape
        torch.Size([1, 3])
    """

    def __init__(self, config: MambaConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.backbone = MambaModel(config)
        use_modular_mixers(self.backbone)
        self.score = nn.Linear(config.hidden_size, int(config.num_labels or 0), bias=False)
        self.post_init()  # type: ignore[no-untyped-call]
