"""Muon for the matrices of a backbone, AdamW for the rest of it, as one optimizer."""

import contextlib
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn

from longdoc.kernels.bfloat16 import FastProducts, slow


class MuonWithAdamW(torch.optim.Optimizer):
    """torch's Muon and torch's AdamW, each on its own parameters.

    Muon makes every update of a matrix nearly orthogonal, so that no direction of it is learnt
    much faster than another. Embeddings, output embeddings and whatever is not a linear layer's
    weight have no such directions and stay with AdamW.

    Args:
        model: What is trained.
        matrix_rate: Muon's rate.
        rate: AdamW's.
        weight_decay: Decoupled, of both.
        betas: AdamW's.
        decays: Names of AdamW's parameters that decay; the others do not.

    Source:
        jordan2024muon, README and its ``muon.py``: which parameters, momentum 0.95, five steps.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        matrix_rate: float,
        rate: float,
        weight_decay: float,
        betas: tuple[float, float],
        decays: Collection[str],
    ) -> None:
        mine = {id(weight) for weight in matrices(model)}
        groups: dict[str, list[Tensor]] = {"matrices": [], "decaying": [], "others": []}
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                kind = "decaying" if name in decays else "others"
                groups["matrices" if id(weight) in mine else kind].append(weight)
        self.parts: list[torch.optim.Optimizer] = []
        if groups["matrices"]:
            muon = torch.optim.Muon(
                groups["matrices"], lr=matrix_rate, weight_decay=weight_decay,
                adjust_lr_fn="original",
            )  # fmt: skip
            self.parts.append(muon)
        rest = [
            {"params": groups["decaying"], "weight_decay": weight_decay},
            {"params": groups["others"], "weight_decay": 0.0},
        ]
        self.parts.append(torch.optim.AdamW(rest, lr=rate, betas=betas))
        super().__init__([group for part in self.parts for group in part.param_groups], {})

    def _share(self) -> None:
        """Show the parts' own groups, so that a schedule changes what they read."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # Muon multiplies in bfloat16, whatever the weights are.
        with FastProducts() if slow() else contextlib.nullcontext():
            for part in self.parts:
                part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Give the state of both."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the state of both."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share()


def matrices(model: nn.Module) -> list[Tensor]:
    """Give the weights that Muon trains: those of linear layers, the output embeddings left out.

    Args:
        model: A language model.
    """
    outputs: Any = getattr(model, "get_output_embeddings", lambda: None)()
    tied = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    tied |= {id(outputs.weight)} if outputs is not None else set()
    return [
        module.weight
        for module in model.modules()
        if isinstance(module, nn.Linear)
        and module.weight.requires_grad
        and id(module.weight) not in tied
    ]
