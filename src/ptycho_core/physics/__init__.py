"""The float64 reference physics: optics, sub-pixel shifts, canvas, stitching and probes."""
