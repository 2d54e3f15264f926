"""Causal attention over all earlier tokens, or over a window of them."""

from longdoc.kernels.causal_attention.choose import causal_attention

__all__ = ["causal_attention"]
