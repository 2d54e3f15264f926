"""The causal convolution of each channel over its last few tokens."""

from longdoc.kernels.causal_conv1d.choose import causal_conv1d

__all__ = ["causal_conv1d"]
