"""Settings that go with a legacy archive, in the vocabulary here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ptycho_core.config.payload import ScanFacts, resolve_training

if TYPE_CHECKING:
    from ptycho_adapters.legacy_archives.archive import LegacyArchive
    from ptycho_core.config.payload import TrainingPayload

_NEIGHBOURS = 7


def legacy_payload(archive: LegacyArchive, name: str) -> TrainingPayload:
    """Give the settings of a model that the legacy software trained, as far as they describe the model.

    What belonged to that run alone, and the paths of its machine, are left out.

    Args:
        archive: what was read.
        name: of the file, which stands where a payload names the scan.
    """
    known = archive.parameters
    settings: dict[str, object] = {
        "architecture": "cnn",
        "gridsize": known.gridsize,
        "n_filters_scale": known.n_filters_scale,
        "amp_activation": known.activation,
        "cbam_encoder": archive.network.block_attention,
        "n_groups": 1,
        "neighbor_count": max(_NEIGHBOURS, known.gridsize**2),
        "initial_weights": "random",
        "notes": f"read from an archive of the legacy software: {archive.generation}",
    }
    facts = ScanFacts(path=Path(name), N=known.N, nphotons=known.nphotons)
    return resolve_training(facts, settings, output_dir=Path())
