"""A model of the legacy software as a value: what its archive holds, by the names of the network's twin here."""

from __future__ import annotations

import zipfile
from enum import StrEnum
from typing import TYPE_CHECKING

import attrs
import numpy as np

from ptycho_adapters.legacy_archives.keras_model import read_keras_model
from ptycho_adapters.legacy_archives.parameters import BundleFacts, LegacyParameters, check_bundle, check_parameters
from ptycho_adapters.legacy_archives.pickled_values import read_parameters
from ptycho_adapters.legacy_archives.roles import HEADS, NetworkFacts, Weights, facts_of, ring_roles
from ptycho_adapters.legacy_archives.saved_model import read_saved_model
from ptycho_adapters.legacy_archives.torch_state import read_torch_file
from ptycho_adapters.legacy_archives.zip_members import DAMAGE, opened
from ptycho_core.errors import ArchiveError, Problem, raise_if_any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ptycho_adapters.legacy_archives.zip_members import Members

_MODEL = "diffraction_to_obj"
_MANIFEST, _PARAMETERS, _NOTES = "manifest.dill", f"{_MODEL}/params.dill", "torch_scaling_metadata.pt"
_VARIABLES = f"{_MODEL}/variables/variables"
_INDEX, _DATA = f"{_VARIABLES}.index", f"{_VARIABLES}.data-00000-of-00001"
_LARGEST_PARAMETERS, _LARGEST_INDEX = 1 << 24, 1 << 24
_LARGEST_NOTES = 1 << 24
_NATIVE = "manifest.json"
_PREFIX = "model."
# Factors of the torch bundle's forward model, which its usual mode does not read.
_UNREAD = frozenset(f"forward_model.{name}" for name in ("alpha", "beta", "rect_scaler.s1", "rect_scaler.s2"))


LEGACY_NOTICE = "is a model of the legacy software: read as it is; ptycho migrate OLD NEW makes it one of this library"
"""Said of each legacy archive that is opened, after its path."""


class Generation(StrEnum):
    """Which software wrote an archive."""

    SAVED_MODEL = "TensorFlow SavedModel (December 2024 to July 2025)"
    KERAS_CARTESIAN = "Keras, real and imaginary part (July 2025 to February 2026)"
    KERAS_POLAR = "Keras, amplitude and phase (since February 2026)"
    TORCH = "torch bundle (since February 2026)"


_KERAS, _SAVED, _TORCH = f"{_MODEL}/model.keras", f"{_MODEL}/saved_model.pb", f"{_MODEL}/model.pth"
_MARKS = (_KERAS, _SAVED, _TORCH)


@attrs.frozen(kw_only=True, eq=False)
class LegacyArchive:
    """What an archive holds.

    Attributes:
        generation: which software wrote it.
        parameters: that were kept beside the weights.
        bundle: further facts of a torch bundle.
        network: what the weights say about their network.
        weights: float32 arrays by the names of the network's twin here.
    """

    generation: Generation
    parameters: LegacyParameters
    bundle: BundleFacts
    network: NetworkFacts
    weights: Weights


def is_legacy_archive(path: Path) -> bool:
    """Tell by its table of contents whether a file is an archive of the legacy software; damage is no archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except DAMAGE:
        return False
    return _NATIVE not in names and not names.isdisjoint({_MANIFEST, *_MARKS})


def read_legacy_archive(path: Path) -> LegacyArchive:
    """Read an archive of the legacy software. Nothing that it names is imported or called.

    Only parameters and weights are opened; members that carry code, or tell how to build objects, are not.

    Args:
        path: the file.

    Raises:
        ArchiveError: it is damaged or out of bounds, of no known kind, or holds another network or settings than are
            known how to follow; a weight is missing, unknown or of another shape.
    """
    subject = str(path)
    with opened(path, subject) as members:
        mark = _mark(members)
        content = members.read(_PARAMETERS, _LARGEST_PARAMETERS)
        found = read_parameters(content, subject, _PARAMETERS)
        parameters = check_parameters(found, subject, with_probe=mark != _TORCH)
        read = {_KERAS: _read_keras, _SAVED: _read_saved_model, _TORCH: _read_torch}[mark]
        archive = read(members, parameters)
    raise_if_any(ArchiveError, subject, _contradictions(archive))
    return archive


def _mark(members: Members) -> str:
    found = [mark for mark in _MARKS if mark in members.names]
    if len(found) != 1:
        expected = "one model: " + " or ".join(_MARKS)
        raise ArchiveError(members.subject, [Problem(path="file", expected=expected, found=", ".join(found) or "none")])
    return found[0]


def _read_keras(members: Members, parameters: LegacyParameters) -> LegacyArchive:
    subject = f"{members.subject} ({_KERAS})"
    graph, weights = read_keras_model(members.read(_KERAS), parameters.N, subject)
    network = facts_of(weights, parameters.N, graph.combination, subject, ring=graph.ring)
    problems = []
    for path, expected, stated in (
        ("amp_activation", parameters.activation, graph.activation),
        ("probe.big", str(parameters.ring), str(graph.ring)),
        ("channels", str(network.channels), str(graph.channels)),
        ("outer channels", str(network.outer_channels), str(graph.outer_channels)),
    ):
        if expected != stated:
            problems.append(Problem(path=path, expected=expected, found=stated[:80]))
    raise_if_any(ArchiveError, subject, problems)
    polar = graph.combination == "polar"
    return LegacyArchive(
        generation=Generation.KERAS_POLAR if polar else Generation.KERAS_CARTESIAN,
        parameters=parameters,
        bundle=BundleFacts(),
        network=network,
        weights=weights,
    )


def _read_saved_model(members: Members, parameters: LegacyParameters) -> LegacyArchive:
    subject = f"{members.subject} ({_VARIABLES})"
    index, data = members.read(_INDEX, _LARGEST_INDEX), members.read(_DATA)
    weights = read_saved_model(index, data, parameters.N, subject, ring=parameters.ring)
    return LegacyArchive(
        generation=Generation.SAVED_MODEL,
        parameters=parameters,
        bundle=BundleFacts(),
        network=facts_of(weights, parameters.N, "polar", subject, ring=parameters.ring),
        weights=weights,
    )


def _read_torch(members: Members, parameters: LegacyParameters) -> LegacyArchive:
    subject = f"{members.subject} ({_TORCH})"
    content = members.read(_TORCH)
    state = read_torch_file(content, subject)
    bundle = BundleFacts()
    if _NOTES in members.names:
        notes = f"{members.subject} ({_NOTES})"
        bundle = check_bundle(read_torch_file(members.read(_NOTES, _LARGEST_NOTES), notes), parameters, notes)
    raise_if_any(ArchiveError, subject, _state_problems(state, len(content)))
    unread = _UNREAD if parameters.ring else _UNREAD | _rings()
    weights = {
        name.removeprefix(_PREFIX): np.ascontiguousarray(value)
        for name, value in state.items()
        if isinstance(value, np.ndarray) and name.removeprefix(_PREFIX) not in unread
    }
    return LegacyArchive(
        generation=Generation.TORCH,
        parameters=parameters,
        bundle=bundle,
        network=facts_of(weights, parameters.N, "polar", subject, ring=parameters.ring),
        weights=weights,
    )


def _rings() -> frozenset[str]:
    """Weights of rings, which a torch bundle has whether its network passes them or not."""
    return frozenset(f"{role}.{part}" for head in HEADS for role in ring_roles(head) for part in ("weight", "bias"))


def _state_problems(state: Mapping[str, object], n_bytes: int) -> Iterator[Problem]:
    total = 0
    for name, value in state.items():
        if not name.startswith(_PREFIX) or not isinstance(value, np.ndarray) or value.dtype != np.float32:
            found = f"{value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
            yield Problem(path=name[:80], expected=f"float32 numbers called {_PREFIX}...", found=found)
        else:
            total += value.nbytes
    if total > n_bytes:
        yield Problem(path="file", expected=f"numbers of at most {n_bytes} bytes", found=f"{total} bytes")


def _contradictions(archive: LegacyArchive) -> Iterator[Problem]:
    network, parameters = archive.network, archive.parameters
    for name, value in archive.weights.items():
        if not np.isfinite(value).all():
            yield Problem(path=name[:80], expected="finite weights", found="others")
    members = parameters.gridsize**2
    if network.channels != members:
        found = f"weights for {network.channels}"
        yield Problem(path="gridsize", expected=f"groups of {members} patterns, as gridsize says", found=found)
    if network.last_channels != 128 * parameters.n_filters_scale:
        expected = f"{128 * parameters.n_filters_scale} channels, as n_filters_scale says"
        yield Problem(path="encoder", expected=expected, found=str(network.last_channels))
    if network.amplitude_channels not in (1, members):
        expected = f"amplitudes for 1 or {members} patterns"
        yield Problem(path="amplitude head", expected=expected, found=str(network.amplitude_channels))
