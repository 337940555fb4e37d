"""Products: what a run leaves behind, in HDF5 and NPZ."""
