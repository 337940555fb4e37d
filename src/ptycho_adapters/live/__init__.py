"""Reconstruction while a scan is being measured: where frames come from, and pictures of those that are there."""

from ptycho_adapters.live.engine import Picture, pictures, reconstruct_stream
from ptycho_adapters.live.sources import QueueSource, SwmrSource

__all__ = ["Picture", "QueueSource", "SwmrSource", "pictures", "reconstruct_stream"]
