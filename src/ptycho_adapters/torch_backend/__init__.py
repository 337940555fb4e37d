"""The torch and Lightning backend.

Raises:
    DependencyError: on import, where torch or one of its companions is not installed, or torchvision does not fit; the
        message says what helps.
"""

from ptycho_adapters.torch_requirements import missing

try:
    from ptycho_adapters.common.groups import TrainingGroups, TrainingSet, training_set_for
    from ptycho_adapters.common.model import EpochLosses, ModelRecord, ScanProbe, Selection, StepLoss
    from ptycho_adapters.common.prior_law import PriorLaw
    from ptycho_adapters.torch_backend.archive import load_archive, save_archive
    from ptycho_adapters.torch_backend.generalist import generalist_for
    from ptycho_adapters.torch_backend.generators import Draft, Generator, Step, View, register_generator
    from ptycho_adapters.torch_backend.inference.reconstruct import reconstruct
    from ptycho_adapters.torch_backend.inference.running import RunningReconstruction
    from ptycho_adapters.torch_backend.trained_model import TrainedModel
    from ptycho_adapters.torch_backend.training.trainer import train, train_on
except (ImportError, RuntimeError, AttributeError, OSError) as error:
    raise missing(error) from None

__all__ = [
    "Draft",
    "EpochLosses",
    "Generator",
    "ModelRecord",
    "PriorLaw",
    "RunningReconstruction",
    "ScanProbe",
    "Selection",
    "Step",
    "StepLoss",
    "TrainedModel",
    "TrainingGroups",
    "TrainingSet",
    "View",
    "generalist_for",
    "load_archive",
    "reconstruct",
    "register_generator",
    "save_archive",
    "train",
    "train_on",
    "training_set_for",
]
