"""The differentiable forward model."""
