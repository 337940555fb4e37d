"""Stands in for the module of this name that Ptychodus looks for; everything is done by `ptycho_adapters.ptychodus`."""
