"""Refinement by pty-chi: our scans and results become its tasks and come back in our frame (docs/refine.md)."""
