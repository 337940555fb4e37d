"""Training of the weights that the package ships: one network for many beams, doses and overlaps, on simulations."""
