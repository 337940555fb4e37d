"""The torch and Lightning backend."""

from ptycho_adapters.torch_backend.archive import load_archive, save_archive
from ptycho_adapters.torch_backend.generators import Generator, register_generator
from ptycho_adapters.torch_backend.reconstruct import reconstruct
from ptycho_adapters.torch_backend.trained_model import EpochLosses, TrainedModel
from ptycho_adapters.torch_backend.trainer import train

__all__ = [
    "EpochLosses",
    "Generator",
    "TrainedModel",
    "load_archive",
    "reconstruct",
    "register_generator",
    "save_archive",
    "train",
]
