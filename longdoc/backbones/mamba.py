"""Mamba with projections that are called as modules, and its document classifier.

Letters: ``b`` documents in the batch, ``l`` tokens, ``d`` inner channels, ``n`` states.

transformers' mixer reads ``dt_proj.weight`` and, on a GPU in training, the weights of ``x_proj``
and ``out_proj``, without calling the modules; an adapter on them then has no effect. Ours calls
all four, and runs the scan of ``longdoc.kernels``.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook
from torch.utils.checkpoint import checkpoint
from transformers import Cache, MambaConfig
from transformers.models.mamba.modeling_mamba import (
    MambaBlock,
    MambaMixer,
    MambaModel,
    MambaPreTrainedModel,
    MambaRMSNorm,
)

from longdoc.backbones.classification import LastTokenClassification
from longdoc.backbones.linear import use_fast_linears
from longdoc.backbones.rows import adapter_of_each_row
from longdoc.kernels import causal_conv1d, native_library, residual, rms_norm, selective_scan
from longdoc.kernels.allocator import give_back_excess
from longdoc.kernels.causal_conv1d import blocked
from longdoc.kernels.exchange import Exchange, halves

SEGMENT = 2048
"""Tokens a layer goes through at once when only the result is wanted, so that a long document takes
no more memory than its input and output. Shorter ones are slower: docs/experiment-log.md."""


@dataclass
class Carried:
    """What a layer hands from one segment of its documents to the next.

    Attributes:
        tokens: The last tokens before the convolution, shape ``(b, d, k - 1)``.
        state: The state of the scan, shape ``(b, d, n)``.
    """

    tokens: Tensor | None = None
    state: Tensor | None = None


class ModularMambaMixer(MambaMixer):
    """transformers' Mamba mixer, its parameters unchanged, every projection called as a module."""

    recompute: bool = True
    """Whether what lies between the outer projections is computed again in the backward pass
    (docs/decisions/0006): more time, less memory."""

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
                Or the places where documents begin that lie one after the other, shape
                ``(documents + 1,)`` (then ``b = 1``).

        Returns:
            Shape ``(b, l, hidden)``.

        Source:
            gu2023mamba, Sec. 3.4 and Alg. 2.
        """
        mask = starts = None
        if attention_mask is not None and attention_mask.dim() == 1:
            starts = attention_mask
        elif attention_mask is not None:
            mask = attention_mask[:, -hidden_states.shape[1] :, None]
        if self._goes_in_segments(hidden_states, cache_params, attention_mask):
            return self._in_segments(hidden_states)
        both = self.in_proj(_masked(hidden_states, mask))
        if self.recompute and cache_params is None and native_library.may_checkpoint():
            # The scan goes forward once: what it kept then is there when the rest is done again.
            mixed = checkpoint(
                self._mix, both, mask, starts, exchange=Exchange(), use_reentrant=False
            )
        else:
            mixed = self._mix(both, mask, starts, cache_params)
        output: Tensor = self.out_proj(mixed)
        return output

    def _goes_in_segments(self, x: Tensor, cache: Cache | None, mask: Tensor | None) -> bool:
        """Say whether only the result is wanted, of documents that are long enough."""
        # In training it may be run again with gradients, and must then have the same dropout.
        plain = cache is None and mask is None and not torch.is_grad_enabled() and not self.training
        return plain and x.shape[1] > SEGMENT and not torch.compiler.is_compiling()

    def _in_segments(self, hidden_states: Tensor) -> Tensor:
        """Mix some tokens after the others, which gives the same in less memory."""
        carried = Carried()
        outputs = [
            self.out_proj(self._mix(self.in_proj(part), None, None, carried=carried))
            for part in hidden_states.split(SEGMENT, dim=1)
        ]
        return torch.cat(outputs, dim=1)

    def _mix(
        self,
        both: Tensor,
        mask: Tensor | None,
        starts: Tensor | None,
        cache: Cache | None = None,
        carried: "Carried | None" = None,
        exchange: Exchange | None = None,
    ) -> Tensor:
        """Do what lies between the outer projections, ``(b, l, 2 d)`` to ``(b, l, d)``."""
        if torch.compiler.is_compiling():
            exchange = None
        if exchange is not None:
            exchange.check_same(type(self).__name__, *self._computed_with())
        u, gate = both.chunk(2, dim=2) if exchange is None else halves(both, exchange)
        u = self._convolve(u.transpose(1, 2), starts, cache, carried, exchange)
        u = _masked(u.transpose(1, 2), mask)
        sizes = [self.time_step_rank, self.ssm_state_size, self.ssm_state_size]
        step, B, C = self.x_proj(u).split(sizes, dim=-1)  # noqa: N806
        delta = self.dt_proj(step)
        if mask is not None:
            # softplus of this is zero: the state stays as it is.
            delta = delta.masked_fill(mask == 0, float("-inf"))
        before = None if carried is None else carried.state
        if cache is not None:
            before = cache.get_recurrent_state(self.layer_idx, state_idx=0)
            if before is not None and torch.is_grad_enabled():
                # It is overwritten below, and the way back needs it.
                before = before.clone()
        scanned = selective_scan(
            u.transpose(1, 2),
            delta.transpose(1, 2),
            -torch.exp(self.A_log.float()),
            B.transpose(1, 2),
            C.transpose(1, 2),
            self.D.float(),
            z=gate.transpose(1, 2),
            delta_softplus=True,
            return_last_state=True,
            initial_state=before,
            starts=starts,
            exchange=exchange,
        )
        if carried is not None:
            carried.state = scanned[1]
        if cache is not None:
            # Not in the type of u: rounded, it would not be the state that a whole document has.
            cache.update_recurrent_state(scanned[1], self.layer_idx)
        return scanned[0].transpose(1, 2)

    def _computed_with(self) -> tuple[dict[str, Tensor], list[object]]:
        """Give what :meth:`_mix` computes with: parameters by name, and the state of adapters."""
        parts: dict[str, Tensor] = {}
        state: list[object] = []
        idle: set[str] = set()
        changing = None
        for name, module in self.named_modules():
            if name.split(".")[0] in ("in_proj", "out_proj"):
                continue
            active = getattr(module, "active_adapters", None)
            if active is not None:  # peft's layers
                off = getattr(module, "disable_adapters", False)
                rows = adapter_of_each_row(module)
                state.append((name, off or (tuple(active), getattr(module, "merged", False), rows)))
                kinds = getattr(module, "adapter_layer_names", ())
                idle |= {one for kind in kinds for one in getattr(module, kind, ())} - set(active)
            if hasattr(module, "parameter_name"):
                # peft puts the update of a single parameter on and off in each forward pass.
                changing = f"{name}.base_layer"
            if name.split(".")[-1] not in idle and name != changing:
                own = module.named_parameters(prefix=name, recurse=False)
                parts.update(dict(own))
        return parts, state

    def _convolve(
        self,
        u: Tensor,
        starts: Tensor | None,
        cache: Cache | None,
        carried: "Carried | None",
        exchange: Exchange | None,
    ) -> Tensor:
        """Convolve each channel of ``(b, d, l)`` over the last few tokens, then activate."""
        length = u.shape[2]
        before = None if carried is None else carried.tokens
        if carried is not None:
            first = max(0, length - self.conv_kernel_size + 1)
            carried.tokens = u[:, :, first:].clone()
        if cache is not None:
            width = self.conv_kernel_size
            u = cache.update_conv_state(u, self.layer_idx, conv_kernel_size=width)
        weight, bias = self.conv1d.weight[:, 0], self.conv1d.bias
        fused = self.activation in ("silu", "swish")
        activation = self.activation if fused else None
        if weight.shape[1] in (2, 3, 4):
            y = causal_conv1d(u, weight, bias, activation, before, starts=starts, exchange=exchange)
        else:
            y = blocked.causal_conv1d(u, weight, bias, activation, before, starts=starts)
        y = y if fused else self.act(y)
        assert isinstance(y, Tensor)
        return y if cache is None else y[:, :, -length:]


def _masked(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask.to(x.dtype)


class FastRMSNorm(MambaRMSNorm):
    """transformers' normalisation in one pass over memory each way."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Normalise ``(..., d)``; gives autocast's type where it is on."""
        kind = _autocast_type() if hidden_states.device.type == "cpu" else None
        return rms_norm(hidden_states, self.weight, self.variance_epsilon, kind)


def _autocast_type() -> torch.dtype | None:
    on = torch.is_autocast_enabled("cpu")
    return torch.get_autocast_dtype("cpu") if on else None


def _is_watched(module: nn.Module) -> bool:
    """Say whether anybody wants to know when a module is called, or has changed what it does."""
    hooks = (
        module._forward_hooks, module._forward_pre_hooks, module._backward_hooks,
        module._backward_pre_hooks,
    )  # fmt: skip
    return any(hooks) or "forward" in vars(module) or bool(_has_any_global_hook())


class ModularMambaBlock(MambaBlock):
    """transformers' Mamba layer in fewer passes over memory; knows when all of it is done again."""

    def forward(
        self,
        hidden_states: Tensor,
        cache_params: Cache | None = None,
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Normalise, mix, add; shapes are those of ``MambaBlock``."""
        again = bool(self.gradient_checkpointing) and self.training
        mixer: Any = self.mixer
        mixer.recompute = not again
        if again:
            # Asked for to save memory, so time is spent to save more of it.
            give_back_excess(within_step=True)
        norm: Any = self.norm
        kind = _autocast_type() or norm.weight.dtype
        plain = type(norm) is FastRMSNorm and not _is_watched(norm)
        if not plain or not residual.serves(hidden_states, kind):
            given: Any = {"cache_params": cache_params, "attention_mask": attention_mask, **kwargs}
            output: Tensor = super().forward(hidden_states, **given)
            return output
        return residual.around(
            partial(mixer, cache_params=cache_params, attention_mask=attention_mask),
            hidden_states,
            norm.weight,
            norm.variance_epsilon,
            kind,
            keep=again,
        )


def use_modular_mixers(model: nn.Module) -> nn.Module:
    """Let every Mamba layer run on longdoc's kernels and call its projections as modules."""
    for module in model.modules():
        if type(module) is MambaMixer:
            module.__class__ = ModularMambaMixer
        elif type(module) is MambaBlock:
            module.__class__ = ModularMambaBlock
        elif type(module) is MambaRMSNorm:
            module.__class__ = FastRMSNorm
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

    packs_documents = True
    _no_split_modules = ["ModularMambaBlock", "ModularMambaMixer"]  # noqa: RUF012  # as theirs

    def __init__(self, config: MambaConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.backbone = MambaModel(config)
        use_modular_mixers(self.backbone)
        self.score = nn.Linear(config.hidden_size, int(config.num_labels or 0), bias=False)
        self.post_init()  # type: ignore[no-untyped-call]
        use_fast_linears(self)
