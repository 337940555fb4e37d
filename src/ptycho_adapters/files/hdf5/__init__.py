"""HDF5 read with suspicion: bounded memory, no damage unnoticed."""
