"""The one rule for formats that hold counts: amplitudes are refused, and squared only on request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptycho_core.errors import Problem
from ptycho_core.measurement.scan import MeasurementDomain

if TYPE_CHECKING:
    from ptycho_core.measurement.scan import Scan


def amplitude_problems(scan: Scan, *, title: str) -> tuple[Problem, ...]:
    """Name the domain of a scan that a format of counts cannot hold; empty for counts.

    Args:
        scan: what is to be written.
        title: the format's name for people.
    """
    if scan.domain is MeasurementDomain.COUNTS:
        return ()
    fix = "square the amplitudes: ptycho convert --as-counts, or scan.as_counts() in Python"
    return (Problem(path="domain", expected=f"counts: {title} files hold photons", found=str(scan.domain), fix=fix),)
