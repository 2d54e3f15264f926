"""Numerical kernels: numbers only, no model."""

from longdoc.kernels.add_norm import add_norm
from longdoc.kernels.attention import attention
from longdoc.kernels.causal_attention import causal_attention
from longdoc.kernels.causal_conv1d import causal_conv1d
from longdoc.kernels.gelu import gelu
from longdoc.kernels.in_transformers import use_in_transformers
from longdoc.kernels.rms_norm import rms_norm
from longdoc.kernels.selective_scan import selective_scan

__all__ = [
    "add_norm", "attention", "causal_attention", "causal_conv1d", "gelu", "rms_norm",
    "selective_scan", "use_in_transformers",
]  # fmt: skip
