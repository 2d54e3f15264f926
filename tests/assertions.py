"""Comparisons that raise, each with a test that it does."""

import torch


def assert_close(
    found: torch.Tensor, wanted: torch.Tensor, tolerance: float, what: str = ""
) -> None:
    """Assert that tensors agree, relative to the largest entry that was wanted."""
    assert found.shape == wanted.shape, f"{what}: shape {tuple(found.shape)} {tuple(wanted.shape)}"
    same = torch.isnan(found) == torch.isnan(wanted)
    assert same.all(), f"{what}: NaN in other places"
    finite = torch.isfinite(wanted)
    assert (found[~finite & ~wanted.isnan()] == wanted[~finite & ~wanted.isnan()]).all(), what
    if not finite.any():
        return
    gap = (found.double() - wanted.double())[finite].abs().max().item()
    scale = max(1.0, wanted[finite].double().abs().max().item())
    assert gap <= tolerance * scale, (
        f"{what}: differs by {gap:.2e}, allowed {tolerance * scale:.2e}"
    )
