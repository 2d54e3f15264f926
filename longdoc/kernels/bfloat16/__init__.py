"""Products of bfloat16 matrices on processors for which PyTorch has no fast ones."""

from longdoc.kernels.bfloat16.choose import (
    FEWEST,
    add,
    gather,
    is_x86_without_avx512,
    multiply,
    serves,
    slow,
)
from longdoc.kernels.bfloat16.mode import FastProducts

__all__ = [
    "FEWEST",
    "FastProducts",
    "add",
    "gather",
    "is_x86_without_avx512",
    "multiply",
    "serves",
    "slow",
]
