"""Root-mean-square normalisation of each token."""

from longdoc.kernels.rms_norm.choose import rms_norm

__all__ = ["rms_norm"]
