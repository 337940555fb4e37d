"""Stands in for the module of this name that Ptychodus looks for; everything is done by `ptycho_adapters.ptychodus`."""

from ptycho_adapters.legacy import cfg, get, set  # noqa: A004 - the client's names

__all__ = ["cfg", "get", "set"]
