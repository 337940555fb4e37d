"""A model in one file: `wts.h5.zip` with `manifest.json`, `config.json` and `model.safetensors`.

No part of it can run code when it is read. Members are stored uncompressed with fixed time stamps, so equal models give
equal files. Weights have the names and the layout of torch in it, whoever writes it.
"""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, get_args

import attrs
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy

from ptycho_adapters.archive_facts import archive_file, payload_of
from ptycho_adapters.atomic import atomic_path
from ptycho_adapters.common.cnn_structure import CnnStructure
from ptycho_adapters.common.model import EpochLosses, ModelRecord, ScanProbe, Selection, StepLoss
from ptycho_adapters.common.prior_law import PriorLaw, prior_law_from
from ptycho_adapters.common.shipped import prior_law_of_start
from ptycho_adapters.common.structure_json import structure_from_json, structure_problems, structure_to_json
from ptycho_core.config.package_generator import PackageGenerator
from ptycho_core.config.payload_json import payload_to_json
from ptycho_core.config.shared import Backend
from ptycho_core.errors import ArchiveError, ConfigError, Problem, raise_if_any
from ptycho_core.measurement.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from ptycho_core.config.payload import TrainingPayload

FORMAT = "ptycho-core-model"
FORMAT_VERSION = 2
_ONE_SCAN = 1  # the version in which a model had one probe, without a name
_MANIFEST, _CONFIG, _WEIGHTS = "manifest.json", "config.json", "model.safetensors"
_GENERATOR = "generator."
_PROBE, _START_PROBE = "probe", "start_probe"
_ROW = tuple(field.name for field in attrs.fields(EpochLosses))
# Archives without them have none to tell of.
_STEP_LOSSES, _SELECTION, _STRUCTURE, _PRIOR_LAW = "step_losses", "selection", "structure", "prior_law"
_FINDINGS = "findings"
_CHOICE = tuple(field.name for field in attrs.fields(Selection))
_EPOCH = (1980, 1, 1, 0, 0, 0)

Arrays = dict[str, NDArray[Any]]


@attrs.frozen(kw_only=True, eq=False)
class StoredModel:
    """What an archive holds.

    Attributes:
        record: all but the network.
        structure: of the network, where its settings do not say it in full.
        weights: by their names in torch, in torch's layout; not yet held against the network.
    """

    record: ModelRecord
    structure: CnnStructure | None
    weights: Arrays


def write_model(
    record: ModelRecord, weights: Arrays, path: str | Path, *, backend: Backend, structure: CnnStructure | None = None
) -> Path:
    """Write a trained model atomically.

    Args:
        record: what a training gave.
        weights: of its network, by their names in torch, in torch's layout.
        path: the file, or a folder that gets `wts.h5.zip`.
        backend: which has trained it.
        structure: of a network that has one.

    Returns:
        The file that was written.

    Raises:
        OSError: from the file system; an older archive is then as it was.
    """
    target = archive_file(Path(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    arrays = {_GENERATOR + name: value for name, value in weights.items()}
    for number, each in enumerate(record.probes):
        arrays[f"{_PROBE}.{number}"] = each.probe
        arrays[f"{_START_PROBE}.{number}"] = each.start_probe
    members = {
        _MANIFEST: json.dumps(_manifest(record, backend, structure), indent=2).encode(),
        _CONFIG: payload_to_json(record.payload).encode(),
        _WEIGHTS: safetensors_numpy.save(arrays),
    }
    with atomic_path(target) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content)
    return target


def read_model(source: Path, *, backend: Backend, generators: Collection[str]) -> StoredModel:
    """Read an archive and check all that can be checked without the network.

    Args:
        source: the file.
        backend: that reads it.
        generators: that it has built.

    Raises:
        ArchiveError: something is missing, damaged, of another version, or of a network that the backend has not built;
            every mismatch is named.
    """
    members = _read_members(source)
    manifest = _read_manifest(source, members[_MANIFEST])
    try:
        payload = payload_of(source, members[_CONFIG].decode())
    except (ConfigError, UnicodeDecodeError) as error:
        problems = error.problems if isinstance(error, ConfigError) else _one(_CONFIG, "UTF-8 text", str(error))
        raise ArchiveError(f"{source} ({_CONFIG})", problems) from error
    arrays = _read_arrays(source, members[_WEIGHTS])
    if manifest["format_version"] == _ONE_SCAN:
        manifest, arrays = _with_list_of_probes(manifest, arrays)
    _raise(source, _manifest_problems(manifest))
    structure = _structure(source, payload, manifest)
    _raise(source, _of_other_backend(manifest, backend, generators))
    record = ModelRecord(
        payload=payload,
        probes=_read_probes(source, manifest, arrays, payload.pt_data_config.N),
        history=tuple(EpochLosses(**row) for row in manifest["history"]),
        code_version=str(manifest["code_version"]),
        step_losses=tuple(StepLoss(step=step, train=loss) for step, loss in manifest.get(_STEP_LOSSES, ())),
        selection=Selection(**manifest[_SELECTION]) if manifest.get(_SELECTION) is not None else None,
        probe_refined=bool(manifest["probes"]),
        prior_law=_prior_law(source, manifest, payload),
    )
    weights = {
        name.removeprefix(_GENERATOR): value
        for name, value in arrays.items()
        if not name.startswith((f"{_PROBE}.", f"{_START_PROBE}."))
    }
    return StoredModel(record=record, structure=structure, weights=weights)


def _prior_law(source: Path, manifest: Mapping[str, Any], payload: TrainingPayload) -> PriorLaw | None:
    """Give the law that is stored; archives of before one was say by their settings what they started from."""
    if _PRIOR_LAW not in manifest:
        return prior_law_of_start(payload)
    if manifest[_PRIOR_LAW] is None:
        return None
    law = prior_law_from(manifest[_PRIOR_LAW], f"{_MANIFEST}.{_PRIOR_LAW}")
    if isinstance(law, Problem):
        raise ArchiveError(str(source), [law])
    return law


def check_weights(source: Path, stored: Mapping[str, NDArray[Any]], wanted: Mapping[str, str]) -> None:
    """Hold stored weights against those that a network has.

    Args:
        source: the archive, for messages.
        stored: weights as they were read.
        wanted: type and shape by name, such as "float32 (3, 3)".

    Raises:
        ArchiveError: a weight is missing, is one too many, or has another shape or type; every one is named.
    """
    problems = []
    for name in sorted(wanted.keys() | stored.keys()):
        expected = wanted.get(name, "no such weight")
        found = describe_weight(stored[name]) if name in stored else "none"
        if expected != found:
            problems.append(Problem(path=f"{_WEIGHTS}.{_GENERATOR}{name}", expected=expected, found=found))
    _raise(source, problems)


def existing_archive(path: str | Path) -> Path:
    """Return the file that a path stands for.

    Raises:
        FileNotFoundError: there is no such file.
        ArchiveError: there is one, and by its name it is no archive.
    """
    source = archive_file(Path(path))
    if source != Path(path) and Path(path).is_file():
        expected = f"a model archive, that is a .zip or .ckpt file, or a folder that holds {source.name}"
        raise ArchiveError(str(path), [Problem(path="file", expected=expected, found=f"a {Path(path).suffix} file")])
    if not source.is_file():
        message = f"Model archive not found: {source}"
        raise FileNotFoundError(message)
    return source


def _manifest(record: ModelRecord, backend: Backend, structure: CnnStructure | None) -> dict[str, object]:
    told = structure_to_json(structure, record.payload)
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "backend": backend,
        "generator": record.payload.pt_model_config.architecture,
        "code_version": record.code_version,
        "probes": [{"name": each.name, "flux": each.flux} for each in record.probes],
        "history": [attrs.asdict(row) for row in record.history],
        _STEP_LOSSES: [[row.step, row.train] for row in record.step_losses],
        _SELECTION: None if record.selection is None else attrs.asdict(record.selection),
        _PRIOR_LAW: None if record.prior_law is None else attrs.asdict(record.prior_law),
        _FINDINGS: [[finding.to_json() for finding in each.findings] for each in record.probes],
        **({} if told is None else {_STRUCTURE: told}),
    }


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
        fix = "write it anew: ptycho train with the same flags and --resume auto takes the last checkpoint"
        problem = Problem(path="file", expected="a complete zip archive", found=str(error), fix=fix)
        raise ArchiveError(str(source), [problem]) from error


def _read_manifest(source: Path, content: bytes) -> Mapping[str, Any]:
    try:
        manifest = json.loads(content)
    except ValueError as error:
        raise ArchiveError(f"{source} ({_MANIFEST})", _one(_MANIFEST, "JSON", str(error))) from error
    expected = {"format": (FORMAT,), "format_version": (_ONE_SCAN, FORMAT_VERSION), "backend": get_args(Backend)[::-1]}
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
    manifest: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> tuple[dict[str, Any], Arrays]:
    """Bring the parts of an archive of one probe into the present form."""
    probes = {name: f"{name}.0" for name in (_PROBE, _START_PROBE)}
    return (
        {**manifest, "probes": [{"name": "", "flux": manifest.get("flux")}]},
        {probes.get(name, name): array for name, array in arrays.items()},
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


def _structure(source: Path, payload: TrainingPayload, manifest: Mapping[str, Any]) -> CnnStructure | None:
    architecture, stated = payload.pt_model_config.architecture, manifest["generator"]
    if stated != architecture:
        raise ArchiveError(str(source), _one(f"{_MANIFEST}.generator", f"{architecture!r}, as {_CONFIG}", repr(stated)))
    structure = manifest.get(_STRUCTURE)
    if structure is None:
        return None
    _raise(source, structure_problems(structure, payload, f"{_MANIFEST}.{_STRUCTURE}"))
    return structure_from_json(structure)


def _of_other_backend(manifest: Mapping[str, Any], backend: Backend, generators: Collection[str]) -> Iterator[Problem]:
    # A package's own is looked for where it is built, which is torch alone.
    looked_for = backend == "pytorch" and PackageGenerator.fits(manifest["generator"])
    if manifest["generator"] not in generators and not looked_for:
        expected = f"{' or '.join(map(repr, sorted(generators)))}, which backend {backend} has built"
        found = f"{manifest['generator']!r}, trained with backend {manifest['backend']}"
        yield Problem(path=f"{_MANIFEST}.generator", expected=expected, found=found)


def _read_arrays(source: Path, content: bytes) -> Arrays:
    try:
        return safetensors_numpy.load(content)
    except (SafetensorError, KeyError) as error:  # a type that NumPy has no word for
        raise ArchiveError(str(source), _one(_WEIGHTS, "a safetensors file", str(error))) from error


def describe_weight(array: NDArray[Any]) -> str:
    """Say type and shape of an array as messages about archives do."""
    return f"{array.dtype} {array.shape}"


def _read_probes(
    source: Path, manifest: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], size: int
) -> tuple[ScanProbe, ...]:
    listed: list[Mapping[str, Any]] = manifest["probes"]
    wanted = [f"{kind}.{number}" for number in range(len(listed)) for kind in (_PROBE, _START_PROBE)]
    stored = {name for name in arrays if name.startswith((f"{_PROBE}.", f"{_START_PROBE}."))}
    problems = [problem for name in wanted for problem in _probe_problems(name, arrays.get(name), size)]
    problems += [
        Problem(path=f"{_WEIGHTS}.{name}", expected=f"no such probe: {len(listed)} are listed", found="one")
        for name in sorted(stored - {*wanted})
    ]
    _raise(source, problems)
    found = _findings(source, manifest.get(_FINDINGS, [[] for _ in listed]), len(listed))
    return tuple(
        ScanProbe(
            name=str(entry["name"]),
            probe=arrays[f"{_PROBE}.{number}"],
            start_probe=arrays[f"{_START_PROBE}.{number}"],
            flux=float(entry["flux"]),
            findings=findings,
        )
        for number, (entry, findings) in enumerate(zip(listed, found, strict=True))
    )


def _findings(source: Path, rows: list[list[object]], number: int) -> list[tuple[Finding, ...]]:
    """Read what was found out about each of so many scans."""
    try:
        found = [tuple(map(Finding.from_json, each)) for each in rows]
    except (TypeError, ValueError):
        found = []
    if len(found) != number:
        expected = "for each probe a list of kind and text"
        raise ArchiveError(str(source), _one(f"{_MANIFEST}.{_FINDINGS}", expected, repr(rows)[:80]))
    return found


def _probe_problems(name: str, array: NDArray[Any] | None, size: int) -> Iterator[Problem]:
    if array is None or array.dtype != np.complex64 or array.ndim != 3 or array.shape[1:] != (size, size):
        found = "none" if array is None else describe_weight(array)
        yield Problem(path=f"{_WEIGHTS}.{name}", expected=f"complex64 (modes, {size}, {size})", found=found)


def _one(path: str, expected: str, found: str) -> list[Problem]:
    return [Problem(path=path, expected=expected, found=found)]


def _raise(source: Path, problems: Iterable[Problem]) -> None:
    raise_if_any(ArchiveError, str(source), problems)
