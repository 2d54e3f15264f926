"""Token windows and targets to a trained model."""
