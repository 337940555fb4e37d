"""Pictures of scans, results and models, for files, reports and notebooks."""

from ptycho_adapters.plotting.values import plot

__all__ = ["plot"]
