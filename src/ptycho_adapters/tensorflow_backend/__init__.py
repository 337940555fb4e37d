"""The TensorFlow backend: the same payloads and archives as the torch backend, and fewer settings.

Raises:
    DependencyError: on import, where TensorFlow is not installed; with the command to install it.
"""

import os

from ptycho_adapters.tensorflow_requirements import missing

# It tells of its builds and devices before anybody can ask it not to; who set the level wants to hear it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

try:
    from ptycho_adapters.tensorflow_backend.archive import load_archive, save_archive
    from ptycho_adapters.tensorflow_backend.generalist import generalist_for
    from ptycho_adapters.tensorflow_backend.reconstruct import reconstruct
    from ptycho_adapters.tensorflow_backend.trained_model import TrainedModel
    from ptycho_adapters.tensorflow_backend.training.trainer import train, train_on
except ModuleNotFoundError as error:
    raise missing(error) from None

__all__ = ["TrainedModel", "generalist_for", "load_archive", "reconstruct", "save_archive", "train", "train_on"]
