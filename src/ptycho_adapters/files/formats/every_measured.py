"""The formats that are described as measured ones, in the order in which a file is tried against them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptycho_adapters.files.formats.emd import EMD
from ptycho_adapters.files.formats.empad import EMPAD
from ptycho_adapters.files.formats.frame_folder import FRAME_FOLDER
from ptycho_adapters.files.formats.nexus import NEXUS
from ptycho_adapters.files.formats.ptylab import PTYLAB

if TYPE_CHECKING:
    from ptycho_adapters.files.formats.measured import MeasuredFormat
    from ptycho_adapters.files.reading import Evidence

MEASURED: tuple[MeasuredFormat, ...] = (PTYLAB, EMD, NEXUS, EMPAD, FRAME_FOLDER)


def measured_format(evidence: Evidence) -> MeasuredFormat | None:
    """Give the measured format of a file; None for any other."""
    return next((one for one in MEASURED if one.recognises(evidence)), None)
