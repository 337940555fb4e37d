"""A model in one file: `wts.h5.zip` with `manifest.json`, `config.json` and `model.safetensors`.

No part of it can run code when it is read. Members are stored uncompressed with fixed time stamps, so equal models give
equal files.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors_torch

from ptycho_adapters.atomic import atomic_path
from ptycho_adapters.torch_backend.generators import build_generator
from ptycho_adapters.torch_backend.trained_model import EpochLosses, TrainedModel
from ptycho_core.errors import ArchiveError, ConfigError, Problem, raise_if_any
from ptycho_core.payload_json import payload_from_json, payload_to_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from ptycho_adapters.torch_backend.generators import Generator

ARCHIVE_NAME = "wts.h5.zip"
FORMAT = "ptycho-core-model"
FORMAT_VERSION = 1
BACKEND = "pytorch"
_MANIFEST, _CONFIG, _WEIGHTS = "manifest.json", "config.json", "model.safetensors"
_GENERATOR = "generator."
_EPOCH = (1980, 1, 1, 0, 0, 0)


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
    target = archive_file(Path(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    members = {
        _MANIFEST: json.dumps(_manifest(model), indent=2).encode(),
        _CONFIG: payload_to_json(model.payload).encode(),
        _WEIGHTS: safetensors_torch.save(_tensors(model)),
    }
    with atomic_path(target) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content)
    return target


def load_archive(path: str | Path) -> TrainedModel:
    """Read a model and check every part of it.

    Args:
        path: the file, or a folder that holds `wts.h5.zip`.

    Returns:
        The model that `save_archive` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ArchiveError: something is missing, damaged, of another version or backend, or does not fit the network; every
            mismatch is named.
    """
    source = archive_file(Path(path))
    if not source.is_file():
        message = f"Model archive not found: {source}"
        raise FileNotFoundError(message)
    members = _read_members(source)
    manifest = _read_manifest(source, members[_MANIFEST])
    try:
        payload = payload_from_json(members[_CONFIG].decode())
    except (ConfigError, UnicodeDecodeError) as error:
        problems = error.problems if isinstance(error, ConfigError) else _one(_CONFIG, "UTF-8 text", str(error))
        raise ArchiveError(f"{source} ({_CONFIG})", problems) from error
    tensors = _read_tensors(source, members[_WEIGHTS])
    generator = build_generator(payload.pt_model_config, payload.pt_data_config)
    _load_weights(source, generator, tensors)
    return TrainedModel(
        payload=payload,
        generator=generator.eval(),
        probe=_probe(source, tensors, "probe"),
        start_probe=_probe(source, tensors, "start_probe"),
        flux=float(manifest["flux"]),
        history=tuple(EpochLosses(**row) for row in manifest["history"]),
        code_version=str(manifest["code_version"]),
    )


def archive_file(path: Path) -> Path:
    """File that a path stands for: itself if it names a zip file, else `wts.h5.zip` in that folder."""
    return path if path.suffix == ".zip" else path / ARCHIVE_NAME


def _manifest(model: TrainedModel) -> dict[str, object]:
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "backend": BACKEND,
        "generator": model.payload.pt_model_config.architecture,
        "code_version": model.code_version,
        "flux": model.flux,
        "history": [{"epoch": row.epoch, "train": row.train, "validation": row.validation} for row in model.history],
    }


def _tensors(model: TrainedModel) -> dict[str, Tensor]:
    weights = {_GENERATOR + name: value.contiguous() for name, value in model.generator.state_dict().items()}
    return weights | {"probe": torch.tensor(model.probe), "start_probe": torch.tensor(model.start_probe)}


def _read_members(source: Path) -> dict[str, bytes]:
    wanted = (_MANIFEST, _CONFIG, _WEIGHTS)
    try:
        with zipfile.ZipFile(source) as archive:
            present = set(archive.namelist())
            missing = [name for name in wanted if name not in present]
            _raise(source, [Problem(path=name, expected="a member of that name", found="none") for name in missing])
            return {name: archive.read(name) for name in wanted}
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError) as error:
        raise ArchiveError(str(source), _one("file", "a complete zip archive", str(error))) from error


def _read_manifest(source: Path, content: bytes) -> Mapping[str, Any]:
    try:
        manifest = json.loads(content)
    except ValueError as error:
        raise ArchiveError(f"{source} ({_MANIFEST})", _one(_MANIFEST, "JSON", str(error))) from error
    expected = {"format": FORMAT, "format_version": FORMAT_VERSION, "backend": BACKEND}
    found = manifest if isinstance(manifest, dict) else {}
    _raise(
        source,
        [
            Problem(path=f"{_MANIFEST}.{key}", expected=repr(value), found=repr(found.get(key)))
            for key, value in expected.items()
            if found.get(key) != value
        ],
    )
    return found


def _read_tensors(source: Path, content: bytes) -> dict[str, Tensor]:
    try:
        return safetensors_torch.load(content)
    except SafetensorError as error:
        raise ArchiveError(str(source), _one(_WEIGHTS, "a safetensors file", str(error))) from error


def _load_weights(source: Path, generator: Generator, tensors: Mapping[str, Tensor]) -> None:
    stored = {name.removeprefix(_GENERATOR): value for name, value in tensors.items() if name.startswith(_GENERATOR)}
    _raise(source, _weight_problems(generator.state_dict(), stored))
    generator.load_state_dict(stored)


def _weight_problems(wanted: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> Iterator[Problem]:
    for name in sorted(wanted.keys() | stored.keys()):
        expected = _describe(wanted[name]) if name in wanted else "no such weight"
        found = _describe(stored[name]) if name in stored else "none"
        if expected != found:
            yield Problem(path=f"{_WEIGHTS}.{_GENERATOR}{name}", expected=expected, found=found)


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _probe(source: Path, tensors: Mapping[str, Tensor], name: str) -> NDArray[np.complex64]:
    tensor = tensors.get(name)
    if tensor is None or not tensor.is_complex() or tensor.ndim != 3 or tensor.shape[1] != tensor.shape[2]:
        found = "none" if tensor is None else _describe(tensor)
        raise ArchiveError(str(source), _one(f"{_WEIGHTS}.{name}", "complex64 (modes, N, N)", found))
    probe: NDArray[np.complex64] = tensor.numpy().astype(np.complex64)
    return probe


def _one(path: str, expected: str, found: str) -> list[Problem]:
    return [Problem(path=path, expected=expected, found=found)]


def _raise(source: Path, problems: Iterable[Problem]) -> None:
    raise_if_any(ArchiveError, str(source), problems)
