"""Numerical kernels: numbers only, no model."""

from longdoc.kernels.selective_scan import selective_scan

__all__ = ["selective_scan"]
