"""Stacks of detector frames, wherever they lie, as something to be read a few at a time."""
