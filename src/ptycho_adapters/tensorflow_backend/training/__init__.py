"""The step, and what happens around it."""
