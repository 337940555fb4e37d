"""One run on either backend: what the payload asks for, with the framework that it names."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - signatures are read at run time too
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ptycho_adapters.common.groups import TrainingSet, training_set_for
from ptycho_adapters.common.model import ModelRecord  # noqa: TC001 - signatures are read at run time too
from ptycho_adapters.factory import commit, populate_legacy_params
from ptycho_adapters.frameworks import framework
from ptycho_adapters.shipped_weights import weights_path
from ptycho_core.config.payload import InferencePayload, TrainingPayload
from ptycho_core.measurement.scan import Scan

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_adapters.common.backend import Framework

Image: TypeAlias = NDArray[np.float32]

__all__ = ["framework", "model_for", "run"]


def run(
    payload: TrainingPayload | InferencePayload,
    scan: Scan | Sequence[Scan] | TrainingSet,
    *,
    model: ModelRecord | None = None,
    validation: Scan | None = None,
) -> tuple[Image | None, Image | None, dict[str, object]]:
    """Run what a payload asks for: project it into the legacy parameters, pick the backend, train or reconstruct.

    Args:
        payload: of a training or a reconstruction.
        scan: patterns; a training takes several scans, or groups that were drawn already, as well.
        model: to reconstruct with, of the payload's backend; by default the payload's archive is loaded.
        validation: another scan that a training validates on.

    Returns:
        Amplitude and phase (H, W) of the object, both None for a training; and the results: `backend`, its name;
        `model`, the trained or the loaded one; and of a reconstruction `reconstruction`, all of it.

    Raises:
        ValueError: the payload, scan or model cannot be used; there is no such backend.
        DependencyError: the packages of the backend are not installed, or the device is not there.
        OSError: from the file system.
    """
    if isinstance(payload, TrainingPayload):
        populate_legacy_params(payload.tf_training_config, force=True)
        return None, None, _trained(payload, scan, validation)
    populate_legacy_params(payload.tf_inference_config, force=True)
    return _reconstructed(payload, scan, model)


def _trained(
    payload: TrainingPayload, scan: Scan | Sequence[Scan] | TrainingSet, validation: Scan | None
) -> dict[str, object]:
    backend = framework(payload.tf_training_config.backend)
    backend.check(payload.execution_config)
    data = scan if isinstance(scan, TrainingSet) else training_set_for(payload, scan, validation=validation)
    commit(payload)
    return {"backend": backend.name, "model": backend.train_on(payload, data)}


def _reconstructed(
    payload: InferencePayload, scan: Scan | Sequence[Scan] | TrainingSet, model: ModelRecord | None
) -> tuple[Image, Image, dict[str, object]]:
    if not isinstance(scan, Scan):
        message = f"expected one scan to reconstruct, found a {type(scan).__name__}"
        raise TypeError(message)
    backend = framework(payload.tf_inference_config.backend)
    used = model or model_for(backend, payload.tf_inference_config.model_path, scan)
    backend.check(payload.execution_config)
    commit(payload)
    found = backend.reconstruct(used, scan, payload)
    results: dict[str, object] = {"backend": backend.name, "model": used, "reconstruction": found}
    return np.abs(found.object), np.angle(found.object), results


def model_for(backend: Framework, path: Path, scan: Scan) -> ModelRecord:
    """Load the model of a reconstruction: an archive, or for the package's own weights the network for the scan."""
    return backend.generalist_for(scan) if path == weights_path() else backend.load_archive(path)
