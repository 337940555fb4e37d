"""Physics-informed ptychography: the pure core. Values in, values out."""

from ptycho_core.config import (
    DataConfig,
    InferenceConfig,
    ModelConfig,
    PyTorchExecutionConfig,
    TorchInferenceConfig,
    TorchModelConfig,
    TorchTrainingConfig,
    TrainingConfig,
)
from ptycho_core.config.bridge import (
    KEY_MAPPINGS,
    from_inference_config,
    from_training_config,
    legacy_dict,
    to_inference_config,
    to_model_config,
    to_training_config,
)
from ptycho_core.config.overrides import Layer, Unset
from ptycho_core.config.payload import InferencePayload, TrainingPayload, resolve_inference, resolve_training
from ptycho_core.measurement.grouping import Grouping, Groups, group_scan
from ptycho_core.measurement.scan import Amplitude, Counts, MeasurementDomain, Scan, ScanMetadata
from ptycho_core.physics.stitching import Stitched, stitch
from ptycho_core.results.product import Product

__all__ = [
    "KEY_MAPPINGS",
    "Amplitude",
    "Counts",
    "DataConfig",
    "Grouping",
    "Groups",
    "InferenceConfig",
    "InferencePayload",
    "Layer",
    "MeasurementDomain",
    "ModelConfig",
    "Product",
    "PyTorchExecutionConfig",
    "Scan",
    "ScanMetadata",
    "Stitched",
    "TorchInferenceConfig",
    "TorchModelConfig",
    "TorchTrainingConfig",
    "TrainingConfig",
    "TrainingPayload",
    "Unset",
    "from_inference_config",
    "from_training_config",
    "group_scan",
    "legacy_dict",
    "resolve_inference",
    "resolve_training",
    "stitch",
    "to_inference_config",
    "to_model_config",
    "to_training_config",
]
