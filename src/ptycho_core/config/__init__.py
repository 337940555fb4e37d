"""Configuration records."""

from ptycho_core.config.canonical import InferenceConfig, ModelConfig, TrainingConfig
from ptycho_core.config.execution import PyTorchExecutionConfig
from ptycho_core.config.package_generator import PackageGenerator
from ptycho_core.config.record import evolve
from ptycho_core.config.torch_side import DataConfig, TorchInferenceConfig, TorchModelConfig, TorchTrainingConfig

__all__ = [
    "DataConfig",
    "InferenceConfig",
    "ModelConfig",
    "PackageGenerator",
    "PyTorchExecutionConfig",
    "TorchInferenceConfig",
    "TorchModelConfig",
    "TorchTrainingConfig",
    "TrainingConfig",
    "evolve",
]
