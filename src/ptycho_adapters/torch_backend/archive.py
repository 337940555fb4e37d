"""Models of torch as archives, and back."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - signatures are read at run time too
from typing import TYPE_CHECKING

import torch

from ptycho_adapters.common.archive_file import (
    check_weights,
    describe_weight,
    existing_archive,
    read_model,
    write_model,
)
from ptycho_adapters.legacy_archives import LEGACY_NOTICE, is_legacy_archive
from ptycho_adapters.torch_backend.generators import build_generator, generator_names
from ptycho_adapters.torch_backend.generators.cnn import LegacyCnn
from ptycho_adapters.torch_backend.legacy_models import read_legacy_model
from ptycho_adapters.torch_backend.trained_model import TrainedModel
from ptycho_core.callers import warn_caller
from ptycho_core.errors import ArchiveError, ConfigError

if TYPE_CHECKING:
    from ptycho_adapters.common.archive_file import StoredModel
    from ptycho_adapters.torch_backend.generators import Generator


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
    weights = {name: value.numpy() for name, value in model.generator.state_dict().items()}
    structure = model.generator.structure if isinstance(model.generator, LegacyCnn) else None
    return write_model(model, weights, path, backend="pytorch", structure=structure)


def load_archive(path: str | Path) -> TrainedModel:
    """Read a model and check every part of it.

    Args:
        path: the file, or a folder that holds `wts.h5.zip`; an archive of the legacy software is read too.

    Returns:
        The model that `save_archive` of either backend wrote, or the twin of what the legacy software wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ArchiveError: something is missing, damaged, of another version, or does not fit the network; every mismatch is
            named, and so is a package that is not installed and whose generator it is.

    Warns:
        UserWarning: the archive is one of the legacy software.
    """
    source = existing_archive(path)
    if is_legacy_archive(source):
        warn_caller(f"{source} {LEGACY_NOTICE}", UserWarning)
        return read_legacy_model(source)
    stored = read_model(source, backend="pytorch", generators=generator_names())
    try:
        generator = _build(stored)
    except ConfigError as error:
        raise ArchiveError(str(source), error.problems) from error
    own = generator.state_dict()
    check_weights(source, stored.weights, {name: describe_weight(value.numpy()) for name, value in own.items()})
    generator.load_state_dict({name: torch.tensor(value) for name, value in stored.weights.items()})
    return TrainedModel.of(stored.record, generator.eval())


def _build(stored: StoredModel) -> Generator:
    if stored.structure is not None:
        return LegacyCnn(stored.structure)
    payload = stored.record.payload
    return build_generator(payload.pt_model_config, payload.pt_data_config)
