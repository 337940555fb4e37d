"""Reconstruction while a scan is being measured: where frames come from, and pictures of those that are there."""

from ptycho_adapters.live.detector import DetectorSource
from ptycho_adapters.live.engine import Picture, pictures, reconstruct_stream
from ptycho_adapters.live.sources import QueueSource, SwmrSource
from ptycho_adapters.live.window import Window

__all__ = ["DetectorSource", "Picture", "QueueSource", "SwmrSource", "Window", "pictures", "reconstruct_stream"]
