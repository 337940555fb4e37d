"""A model in one file: `wts.h5.zip` with `manifest.json`, `config.json` and `model.safetensors`.

No part of it can run code when it is read. Members are stored uncompressed with fixed time stamps, so equal models give
equal files.
"""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import attrs
import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors_torch

from ptycho_adapters.atomic import atomic_path
from ptycho_adapters.legacy_archives import LEGACY_NOTICE, is_legacy_archive
from ptycho_adapters.torch_backend.generators import build_generator
from ptycho_adapters.torch_backend.generators.cnn import LegacyCnn
from ptycho_adapters.torch_backend.legacy_models import read_legacy_model
from ptycho_adapters.torch_backend.structure_json import structure_from_json, structure_problems, structure_to_json
from ptycho_adapters.torch_backend.trained_model import EpochLosses, ScanProbe, Selection, StepLoss, TrainedModel
from ptycho_core.callers import warn_caller
from ptycho_core.config.payload_json import payload_from_json, payload_to_json
from ptycho_core.errors import ArchiveError, ConfigError, Problem, raise_if_any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from torch import Tensor

    from ptycho_adapters.torch_backend.generators import Generator
    from ptycho_core.config.payload import TrainingPayload

ARCHIVE_NAME = "wts.h5.zip"
_SUFFIXES = (".zip", ".ckpt")  # the Ptychodus client knows models by the latter
FORMAT = "ptycho-core-model"
FORMAT_VERSION = 2
_ONE_SCAN = 1  # the version in which a model had one probe, without a name
BACKEND = "pytorch"
_MANIFEST, _CONFIG, _WEIGHTS = "manifest.json", "config.json", "model.safetensors"
_GENERATOR = "generator."
_PROBE, _START_PROBE = "probe", "start_probe"
_ROW = tuple(field.name for field in attrs.fields(EpochLosses))
# Archives without them have none to tell of.
_STEP_LOSSES, _SELECTION, _STRUCTURE = "step_losses", "selection", "structure"
_CHOICE = tuple(field.name for field in attrs.fields(Selection))
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
        path: the file, or a folder that holds `wts.h5.zip`; an archive of the legacy software is read too.

    Returns:
        The model that `save_archive` wrote, or the twin of what the legacy software wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ArchiveError: something is missing, damaged, of another version or backend, or does not fit the network; every
            mismatch is named.

    Warns:
        UserWarning: the archive is one of the legacy software.
    """
    source = archive_file(Path(path))
    if not source.is_file():
        message = f"Model archive not found: {source}"
        raise FileNotFoundError(message)
    if is_legacy_archive(source):
        warn_caller(f"{source} {LEGACY_NOTICE}", UserWarning)
        return read_legacy_model(source)
    return _load_native(source)


def _load_native(source: Path) -> TrainedModel:
    members = _read_members(source)
    manifest = _read_manifest(source, members[_MANIFEST])
    try:
        payload = payload_from_json(members[_CONFIG].decode())
    except (ConfigError, UnicodeDecodeError) as error:
        problems = error.problems if isinstance(error, ConfigError) else _one(_CONFIG, "UTF-8 text", str(error))
        raise ArchiveError(f"{source} ({_CONFIG})", problems) from error
    tensors = _read_tensors(source, members[_WEIGHTS])
    if manifest["format_version"] == _ONE_SCAN:
        manifest, tensors = _with_list_of_probes(manifest, tensors)
    _raise(source, _manifest_problems(manifest))
    generator = _build(source, payload, manifest)
    _load_weights(source, generator, tensors)
    return TrainedModel(
        payload=payload,
        generator=generator.eval(),
        probes=_read_probes(source, manifest["probes"], tensors, payload.pt_data_config.N),
        history=tuple(EpochLosses(**row) for row in manifest["history"]),
        code_version=str(manifest["code_version"]),
        step_losses=tuple(StepLoss(step=step, train=loss) for step, loss in manifest.get(_STEP_LOSSES, ())),
        selection=Selection(**manifest[_SELECTION]) if manifest.get(_SELECTION) is not None else None,
        probe_refined=bool(manifest["probes"]),
    )


def archive_file(path: Path) -> Path:
    """File that a path stands for: itself if it is named like an archive, else `wts.h5.zip` in that folder."""
    return path if path.suffix in _SUFFIXES else path / ARCHIVE_NAME


def _manifest(model: TrainedModel) -> dict[str, object]:
    structure = structure_to_json(model.generator, model.payload)
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "backend": BACKEND,
        "generator": model.payload.pt_model_config.architecture,
        "code_version": model.code_version,
        "probes": [{"name": each.name, "flux": each.flux} for each in model.probes],
        "history": [attrs.asdict(row) for row in model.history],
        _STEP_LOSSES: [[row.step, row.train] for row in model.step_losses],
        _SELECTION: None if model.selection is None else attrs.asdict(model.selection),
        **({} if structure is None else {_STRUCTURE: structure}),
    }


def _tensors(model: TrainedModel) -> dict[str, Tensor]:
    weights = {_GENERATOR + name: value.contiguous() for name, value in model.generator.state_dict().items()}
    for number, each in enumerate(model.probes):
        weights[f"{_PROBE}.{number}"] = torch.tensor(each.probe)
        weights[f"{_START_PROBE}.{number}"] = torch.tensor(each.start_probe)
    return weights


def _read_members(source: Path) -> dict[str, bytes]:
    wanted = (_MANIFEST, _CONFIG, _WEIGHTS)
    try:
        with zipfile.ZipFile(source) as archive:
            present = set(archive.namelist())
            problems = [
                Problem(path=name, expected="a member of that name", found="none")
                for name in wanted
                if name not in present
            ]
            problems += [
                Problem(path=name, expected="no such member", found="one") for name in sorted(present - {*wanted})
            ]
            _raise(source, problems)
            return {name: archive.read(name) for name in wanted}
    # zipfile reports damage in many ways; a password as a bare RuntimeError.
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise ArchiveError(str(source), _one("file", "a complete zip archive", str(error))) from error


def _read_manifest(source: Path, content: bytes) -> Mapping[str, Any]:
    try:
        manifest = json.loads(content)
    except ValueError as error:
        raise ArchiveError(f"{source} ({_MANIFEST})", _one(_MANIFEST, "JSON", str(error))) from error
    expected = {"format": (FORMAT,), "format_version": (_ONE_SCAN, FORMAT_VERSION), "backend": (BACKEND,)}
    found = manifest if isinstance(manifest, dict) else {}
    _raise(
        source,
        [
            Problem(path=f"{_MANIFEST}.{key}", expected=" or ".join(map(repr, known)), found=repr(found.get(key)))
            for key, known in expected.items()
            if found.get(key) not in known
        ],
    )
    return found


def _with_list_of_probes(
    manifest: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Bring the parts of an archive of one probe into the present form."""
    probes = {name: f"{name}.0" for name in (_PROBE, _START_PROBE)}
    return (
        {**manifest, "probes": [{"name": "", "flux": manifest.get("flux")}]},
        {probes.get(name, name): tensor for name, tensor in tensors.items()},
    )


def _manifest_problems(manifest: Mapping[str, Any]) -> Iterator[Problem]:
    probes = manifest.get("probes")
    # Only a network of other software may come without the probe that it was trained with.
    few = 0 if manifest.get(_STRUCTURE) is not None else 1
    if not isinstance(probes, list) or len(probes) < few or not all(map(_is_probe, probes)):
        expected = "one or more of name and flux, a positive number of photons"
        yield Problem(path=f"{_MANIFEST}.probes", expected=expected, found=repr(probes)[:80])
    for key in ("code_version", "generator"):
        if not isinstance(manifest.get(key), str):
            yield Problem(path=f"{_MANIFEST}.{key}", expected="text", found=repr(manifest.get(key)))
    history = manifest.get("history")
    if not isinstance(history, list) or not all(_is_epoch(row) for row in history):
        yield Problem(path=f"{_MANIFEST}.history", expected=f"rows of {', '.join(_ROW)}", found=repr(history)[:80])
    steps = manifest.get(_STEP_LOSSES, [])
    if not isinstance(steps, list) or not all(_is_step(row) for row in steps):
        yield Problem(path=f"{_MANIFEST}.{_STEP_LOSSES}", expected="pairs of step and loss", found=repr(steps)[:80])

    selection = manifest.get(_SELECTION)
    if selection is not None and not _is_selection(selection):
        expected, found = f"{', '.join(_CHOICE)}, or nothing", repr(selection)[:80]
        yield Problem(path=f"{_MANIFEST}.{_SELECTION}", expected=expected, found=found)


def _is_selection(entry: object) -> bool:
    if not isinstance(entry, dict) or entry.keys() != {*_CHOICE}:
        return False
    epoch = entry["epoch"]
    losses = (entry["start_loss"], entry["end_loss"])
    return all(map(_is_number, losses)) and (epoch is None or (isinstance(epoch, int) and not isinstance(epoch, bool)))


def _is_step(row: object) -> bool:
    return isinstance(row, list) and len(row) == 2 and isinstance(row[0], int) and all(map(_is_number, row))


def _is_epoch(row: object) -> bool:
    if not isinstance(row, dict) or row.keys() != {*_ROW}:
        return False
    return all(_is_number(value) or (key == "validation" and value is None) for key, value in row.items())


def _is_probe(entry: object) -> bool:
    if not isinstance(entry, dict) or entry.keys() != {"name", "flux"} or not isinstance(entry["name"], str):
        return False
    flux = entry["flux"]
    return _is_number(flux) and 0 < flux < math.inf


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _build(source: Path, payload: TrainingPayload, manifest: Mapping[str, Any]) -> Generator:
    architecture, stated, structure = (
        payload.pt_model_config.architecture,
        manifest["generator"],
        manifest.get(_STRUCTURE),
    )
    if stated != architecture:
        raise ArchiveError(str(source), _one(f"{_MANIFEST}.generator", f"{architecture!r}, as {_CONFIG}", repr(stated)))
    if structure is not None:
        _raise(source, structure_problems(structure, payload, f"{_MANIFEST}.{_STRUCTURE}"))
        return LegacyCnn(structure_from_json(structure))
    try:
        return build_generator(payload.pt_model_config, payload.pt_data_config)
    except ConfigError as error:
        raise ArchiveError(f"{source} ({_CONFIG})", error.problems) from error


def _read_tensors(source: Path, content: bytes) -> dict[str, Tensor]:
    try:
        return safetensors_torch.load(content)
    except SafetensorError as error:
        raise ArchiveError(str(source), _one(_WEIGHTS, "a safetensors file", str(error))) from error


def _load_weights(source: Path, generator: Generator, tensors: Mapping[str, Tensor]) -> None:
    wanted = {_GENERATOR + name: value for name, value in generator.state_dict().items()}
    stored = {name: value for name, value in tensors.items() if not name.startswith((f"{_PROBE}.", f"{_START_PROBE}."))}
    _raise(source, _weight_problems(wanted, stored))
    generator.load_state_dict({name.removeprefix(_GENERATOR): value for name, value in stored.items()})


def _weight_problems(wanted: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> Iterator[Problem]:
    for name in sorted(wanted.keys() | stored.keys()):
        expected = _describe(wanted[name]) if name in wanted else "no such weight"
        found = _describe(stored[name]) if name in stored else "none"
        if expected != found:
            yield Problem(path=f"{_WEIGHTS}.{name}", expected=expected, found=found)


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _read_probes(
    source: Path, listed: list[Mapping[str, Any]], tensors: Mapping[str, Tensor], size: int
) -> tuple[ScanProbe, ...]:
    wanted = [f"{kind}.{number}" for number in range(len(listed)) for kind in (_PROBE, _START_PROBE)]
    stored = {name for name in tensors if name.startswith((f"{_PROBE}.", f"{_START_PROBE}."))}
    problems = [problem for name in wanted for problem in _probe_problems(name, tensors.get(name), size)]
    problems += [
        Problem(path=f"{_WEIGHTS}.{name}", expected=f"no such probe: {len(listed)} are listed", found="one")
        for name in sorted(stored - {*wanted})
    ]
    _raise(source, problems)
    return tuple(
        ScanProbe(
            name=str(entry["name"]),
            probe=tensors[f"{_PROBE}.{number}"].numpy(),
            start_probe=tensors[f"{_START_PROBE}.{number}"].numpy(),
            flux=float(entry["flux"]),
        )
        for number, entry in enumerate(listed)
    )


def _probe_problems(name: str, tensor: Tensor | None, size: int) -> Iterator[Problem]:
    if tensor is None or tensor.dtype != torch.complex64 or tensor.ndim != 3 or tensor.shape[1:] != (size, size):
        found = "none" if tensor is None else _describe(tensor)
        yield Problem(path=f"{_WEIGHTS}.{name}", expected=f"complex64 (modes, {size}, {size})", found=found)


def _one(path: str, expected: str, found: str) -> list[Problem]:
    return [Problem(path=path, expected=expected, found=found)]


def _raise(source: Path, problems: Iterable[Problem]) -> None:
    raise_if_any(ArchiveError, str(source), problems)
