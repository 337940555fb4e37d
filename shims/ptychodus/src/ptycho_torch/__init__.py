"""Stands in for the module of this name that Ptychodus looks for; everything is done by `ptycho_adapters.ptychodus`."""

from ptycho_adapters.ptychodus.installation import refuse_other_owners

refuse_other_owners()
