"""Stands in for the module of this name that Ptychodus looks for; everything is done by `ptycho_adapters.ptychodus`."""

from ptycho_adapters.ptychodus.tensorflow_configs import InferenceConfig, ModelConfig, TrainingConfig
from ptycho_adapters.ptychodus.tensorflow_library import update_legacy_dict

__all__ = ["InferenceConfig", "ModelConfig", "TrainingConfig", "update_legacy_dict"]
