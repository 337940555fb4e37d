"""NPZ files."""
