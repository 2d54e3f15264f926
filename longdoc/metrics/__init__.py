"""Predictions to numbers: pure functions."""
