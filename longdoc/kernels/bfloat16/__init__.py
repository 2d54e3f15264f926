"""Products of bfloat16 matrices on processors for which PyTorch has no fast ones."""

from longdoc.kernels.bfloat16.choose import add, gather, multiply, serves, slow

__all__ = ["add", "gather", "multiply", "serves", "slow"]
