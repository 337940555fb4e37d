"""Models of TensorFlow as archives, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptycho_adapters.common.archive_file import check_weights, existing_archive, read_model, write_model
from ptycho_adapters.legacy_archives import is_legacy_archive
from ptycho_adapters.tensorflow_backend.generators.build import GENERATORS, build_generator, weights_for
from ptycho_adapters.tensorflow_backend.generators.cnn import Cnn
from ptycho_adapters.tensorflow_backend.trained_model import TrainedModel
from ptycho_core.errors import ArchiveError, Problem

if TYPE_CHECKING:
    from pathlib import Path


def save_archive(model: TrainedModel, path: str | Path) -> Path:
    """Write a trained model atomically.

    Args:
        model: what a training gave.
        path: the file, or a folder that gets `wts.h5.zip`.

    Returns:
        The file that was written.

    Raises:
        OSError: from the file system; an older archive is then as it was.
    """
    structure = model.generator.structure if isinstance(model.generator, Cnn) else None
    return write_model(model, model.generator.weights, path, backend="tensorflow", structure=structure)


def load_archive(path: str | Path) -> TrainedModel:
    """Read a model and check every part of it.

    Args:
        path: the file, or a folder that holds `wts.h5.zip`.

    Returns:
        The model that `save_archive` of either backend wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ArchiveError: something is missing, damaged, of another version, does not fit the network, or is of a network
            that is not built here; every mismatch is named.
    """
    source = existing_archive(path)
    if is_legacy_archive(source):
        fix = "ptycho migrate makes an archive of this library of it; backend pytorch reads it as it is"
        found, expected = "one of the legacy software", "an archive of this library for backend tensorflow"
        raise ArchiveError(str(source), [Problem(path="file", expected=expected, found=found, fix=fix)])
    stored = read_model(source, backend="tensorflow", generators=GENERATORS)
    structure, payload = stored.structure, stored.record.payload
    if structure is not None and structure.channels != 1:
        expected = "1, which backend tensorflow has built; backend pytorch takes any"
        problem = Problem(path="manifest.json.structure.channels", expected=expected, found=str(structure.channels))
        raise ArchiveError(str(source), [problem])
    model, data = payload.pt_model_config, payload.pt_data_config
    wanted = weights_for(model, data, structure)
    check_weights(source, stored.weights, {name: f"float32 {weight.shape}" for name, weight in wanted.items()})
    return TrainedModel.of(stored.record, build_generator(model, data, stored.weights, structure))
