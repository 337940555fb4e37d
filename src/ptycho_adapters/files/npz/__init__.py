"""NPZ read with suspicion: bounded memory, nothing executed, no damage unnoticed."""
