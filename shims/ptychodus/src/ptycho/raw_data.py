"""Stands in for the module of this name that Ptychodus looks for; everything is done by `ptycho_adapters.ptychodus`."""

from ptycho_adapters.ptychodus.tensorflow_library import RawData

__all__ = ["RawData"]
