"""LoRA on a linear layer without a pass over memory for the update, in peft's own format."""

from typing import Any

import torch
from peft.tuners import lora
from torch import Tensor, nn

from longdoc.backbones.linear import FastLinear
from longdoc.kernels import native_library
from longdoc.kernels.low_rank import low_rank_linear


class FusedLoraLinear(lora.Linear):
    """peft's LoRA layer; what is plain LoRA of one adapter runs fused, all else as peft has it."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Multiply by weight and update; shapes are those of ``nn.Linear``."""
        name = self._plain_adapter(x, args, kwargs)
        if name is None:
            result: Tensor = super().forward(x, *args, **kwargs)
            return result
        base: Any = self.base_layer
        a: Any = self.lora_A[name]
        b: Any = self.lora_B[name]
        drop = self.lora_dropout[name]
        rate = drop.p if isinstance(drop, nn.Dropout) and drop.training else 0.0
        scaling = self.scaling[name]
        return low_rank_linear(x, base.weight, base.bias, a.weight, b.weight, scaling, rate)

    def _plain_adapter(self, x: Tensor, args: Any, kwargs: Any) -> str | None:
        """Give the one active adapter if it is nothing but LoRA on a float32 layer of a CPU."""
        if args or kwargs or self.disable_adapters or self.merged:
            return None
        if torch.compiler.is_compiling() or native_library.is_transformed():
            return None
        names = [name for name in self.active_adapters if name in self.lora_A]
        if len(names) != 1 or len(self.active_adapters) != 1 or names[0] in self.lora_variant:
            return None
        base = self.base_layer
        parts = (base, self.lora_A[names[0]], self.lora_B[names[0]])
        plain = (
            type(base) in (nn.Linear, FastLinear)
            and not self.fan_in_fan_out
            and self.lora_B[names[0]].bias is None
            and getattr(self.lora_dropout[names[0]], "p", 0.0) < 1
            and x.device.type == "cpu"
            and all(part.weight.dtype == torch.float32 for part in parts)
            and not any(part._forward_hooks or part._forward_pre_hooks for part in parts)
        )
        return names[0] if plain else None


def use_fused_lora(model: nn.Module) -> nn.Module:
    """Let every LoRA linear layer run fused; parameters and names stay as they are."""
    for module in model.modules():
        if type(module) is lora.Linear:
            module.__class__ = FusedLoraLinear
    return model
