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
    TorchInferenceRecords,
    TorchTrainingRecords,
    from_inference_config,
    from_training_config,
    legacy_dict,
    to_inference_config,
    to_model_config,
    to_training_config,
)
from ptycho_core.config.overrides import Layer, Unset
from ptycho_core.config.payload import (
    ArchiveFacts,
    InferenceFacts,
    InferencePayload,
    ScanFacts,
    TrainingPayload,
    resolve_inference,
    resolve_training,
)
from ptycho_core.config.record import Record
from ptycho_core.measurement.findings import Finding, Suspicion
from ptycho_core.measurement.grouping import Grouping, Groups, group_scan
from ptycho_core.measurement.scan import Amplitude, Counts, MeasurementDomain, Scan, ScanMetadata
from ptycho_core.physics.canvas import CanvasFrame
from ptycho_core.physics.stitching import Stitched, stitch
from ptycho_core.results.product import Product
from ptycho_core.results.reconstruction import Reconstruction
from ptycho_core.results.run_details import RunDetails
from ptycho_core.results.uncertainty import PriorByFrequency, Uncertainty

__all__ = [
    "KEY_MAPPINGS",
    "Amplitude",
    "ArchiveFacts",
    "CanvasFrame",
    "Counts",
    "DataConfig",
    "Finding",
    "Grouping",
    "Groups",
    "InferenceConfig",
    "InferenceFacts",
    "InferencePayload",
    "Layer",
    "MeasurementDomain",
    "ModelConfig",
    "PriorByFrequency",
    "Product",
    "PyTorchExecutionConfig",
    "Reconstruction",
    "Record",
    "RunDetails",
    "Scan",
    "ScanFacts",
    "ScanMetadata",
    "Stitched",
    "Suspicion",
    "TorchInferenceConfig",
    "TorchInferenceRecords",
    "TorchModelConfig",
    "TorchTrainingConfig",
    "TorchTrainingRecords",
    "TrainingConfig",
    "TrainingPayload",
    "Uncertainty",
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
