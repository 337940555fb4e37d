"""Whether commands finish a reconstruction where nobody says: where that takes little, and can weigh the network."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs

from ptycho_adapters.command_line import console
from ptycho_adapters.crew import crew_of
from ptycho_core.config.overrides import Layer
from ptycho_core.config.record import evolve

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ptycho_core.config.payload import InferencePayload
    from ptycho_core.measurement.scan import Scan

FINISH_BY_DEFAULT: Mapping[str, object] = MappingProxyType({"finish": "auto"})
"""A command's own default, before the scan is known."""
CHEAP_SAMPLES = 1 << 23
"""Pixels of all patterns, up to which a finish takes less than what comes before it."""
HINT = (
    f"default here: auto up to {CHEAP_SAMPLES / 1e6:.1f} million pixels of patterns in memory, in one process, "
    "under a network whose errors are known; else none"
)


def affordable(payload: InferencePayload, scan: Scan, *, law_known: bool) -> InferencePayload:
    """Leave out the finish that nobody asked for where it takes long, or does not know what the network is worth.

    Args:
        payload: resolved with `FINISH_BY_DEFAULT`.
        scan: as large as what is reconstructed.
        law_known: whether the law by which the network errs is.
    """
    settings = payload.pt_inference_config
    if payload.provenance["finish"] is not Layer.COMMAND or settings.error_bars:
        return payload
    long = scan.n_patterns * scan.N**2 > CHEAP_SAMPLES or scan.memory_mapped
    if law_known and not long and crew_of(payload.execution_config.devices).count == 1:
        return payload
    if long and payload.execution_config.enable_progress_bar:
        console.note(
            "the pass alone, since a finish of so many patterns, or of some that stay in their file, takes long; "
            "--finish auto makes it"
        )
    return attrs.evolve(payload, pt_inference_config=evolve(settings, finish="none"))
