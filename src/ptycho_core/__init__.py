"""Physics-informed ptychography: the pure core. Values in, values out."""
