"""Models of the legacy software: weights out of its archives in their twin of a network here."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from ptycho_adapters.common.cnn_structure import CnnStructure
from ptycho_adapters.common.model import ScanProbe
from ptycho_adapters.legacy_archives import legacy_payload, light_of, read_legacy_archive
from ptycho_adapters.torch_backend.generators.cnn import LegacyCnn
from ptycho_adapters.torch_backend.trained_model import TrainedModel
from ptycho_core.errors import ArchiveError, Problem, raise_if_any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ptycho_adapters.legacy_archives import LegacyArchive

_WITHOUT_CONTENT = "meta"  # torch's device of arrays without content


def read_legacy_model(path: Path) -> TrainedModel:
    """Read a model of the legacy software.

    Its patches have the scale of those here: about 1 where the object is transparent.

    Args:
        path: an archive of that software.

    Returns:
        Network, settings as far as they describe the model, and the probe if the archive holds one.

    Raises:
        ArchiveError: the archive cannot be read, or holds another network.
    """
    archive = read_legacy_archive(path)
    probe = archive.parameters.probe
    probes: tuple[ScanProbe, ...] = ()
    if probe is not None:
        known = probe[None]
        probes = (ScanProbe(probe=known, start_probe=known, flux=light_of(known)),)
    return TrainedModel(
        payload=legacy_payload(archive, path.name),
        generator=legacy_generator(archive, str(path)),
        probes=probes,
        history=(),
        code_version=f"legacy {archive.parameters.version}".rstrip(),
        probe_refined=bool(probes),
    )


def legacy_generator(archive: LegacyArchive, subject: str) -> LegacyCnn:
    """Build the network of an archive, with its weights, in evaluation mode.

    Args:
        archive: what was read.
        subject: what it is called in errors.

    Raises:
        ArchiveError: a weight is missing, unknown or of another shape; every one is named.
    """
    structure = legacy_structure(archive)
    # Sizes are compared before they are allocated: what a file says about itself may be anything.
    with torch.device(_WITHOUT_CONTENT):
        wanted = {name: tuple(value.shape) for name, value in LegacyCnn(structure).state_dict().items()}
    stored = {name: value.shape for name, value in archive.weights.items()}
    raise_if_any(ArchiveError, subject, _shape_problems(wanted, stored))
    generator = LegacyCnn(structure)
    generator.load_state_dict({name: torch.tensor(value) for name, value in archive.weights.items()})
    return generator.eval()


def legacy_structure(archive: LegacyArchive) -> CnnStructure:
    """Give the structure of an archive's network."""
    parameters, network = archive.parameters, archive.network
    return CnnStructure(
        size=parameters.N,
        channels=network.channels,
        filters_scale=parameters.n_filters_scale,
        block_attention=network.block_attention,
        amplitude_channels=network.amplitude_channels,
        outer_channels=network.outer_channels,
        outer_width=network.outer_width,
        activation=parameters.activation,
        ring=network.ring,
        combination=network.combination,
        object_scale=_object_scale(archive),
    )


def _object_scale(archive: LegacyArchive) -> float | None:
    """Transparency in the archive's scale is what turns its probe into normalised patterns, of a sum of (N/2)²."""
    probe = archive.parameters.probe
    return None if probe is None else 2.0 * math.sqrt(light_of(probe)) / archive.parameters.N


def _shape_problems(wanted: dict[str, tuple[int, ...]], stored: dict[str, tuple[int, ...]]) -> Iterator[Problem]:
    for name in sorted(wanted.keys() | stored.keys()):
        if wanted.get(name) != stored.get(name):
            expected = f"shape {wanted[name]}" if name in wanted else "no such weight"
            found = f"shape {stored[name]}" if name in stored else "none"
            yield Problem(path=name[:120], expected=expected, found=found)
