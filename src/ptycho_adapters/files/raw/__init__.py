"""Frames and positions as they lie in files, before anything is asked of them."""
