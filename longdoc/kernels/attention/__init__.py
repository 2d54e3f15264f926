"""Attention of every token to every other."""

from longdoc.kernels.attention.choose import attention

__all__ = ["attention"]
