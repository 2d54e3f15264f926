"""The selective scan: what makes Mamba a state-space model that chooses what to keep."""

from longdoc.kernels.selective_scan.choose import selective_scan

__all__ = ["selective_scan"]
