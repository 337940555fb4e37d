"""Stands in for the module of this name that Ptychodus looks for; everything is done by `ptycho_adapters.ptychodus`."""

from ptycho_adapters.ptychodus.torch_library import PtychoPINN_Lightning

__all__ = ["PtychoPINN_Lightning"]
