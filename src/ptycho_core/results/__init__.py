"""Reconstructions, products, metrics and what they need."""
