"""Measured frames and positions made into what a reconstruction takes, a few frames at a time."""
