"""Stands in for the module of this name that Ptychodus looks for; everything is done by `ptycho_adapters.ptychodus`."""

from ptycho_adapters.ptychodus.torch_library import (
    ConfigManager,
    DataloaderFormats,
    InferenceEngine,
    PtychoDataLoader,
    PtychoModel,
    Trainer,
)

__all__ = ["ConfigManager", "DataloaderFormats", "InferenceEngine", "PtychoDataLoader", "PtychoModel", "Trainer"]
