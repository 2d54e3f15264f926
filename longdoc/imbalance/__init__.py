"""Answers to imbalance: losses, samplers, and what is done to scores afterwards."""

from longdoc.imbalance.catalog import LOSSES, SAMPLERS, build_loss
from longdoc.imbalance.settings import ImbalanceSettings

__all__ = ["LOSSES", "SAMPLERS", "ImbalanceSettings", "build_loss"]
