"""What any reconstruction finds out about its scan, in words for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptycho_core.measurement.findings import Finding, Suspicion

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

POOR_FIT_RATIO = 3.0
"""Deviance over what shot noise leaves, above which a fit is called poor."""

_CAUSES = (
    "positions (scale, orientation, pairing with the frames), the probe (focus, modes), the mask, light that does "
    "not come from the sample, phases of half a turn and more (a finish, as in ptycho reconstruct, follows them "
    "further); under a model of one's own, too short a training"
)


def poor_fit(metrics: Mapping[str, float]) -> Iterator[Finding]:
    """Yield that a fit is poor, if it is."""
    ratio = metrics["deviance_per_px"] / metrics["expected_deviance_per_px"]
    if ratio > POOR_FIT_RATIO:
        text = (
            f"poor fit: the deviance is {ratio:.1f} times what shot noise leaves "
            f"({metrics['deviance_per_px']:.3g}, {metrics['expected_deviance_per_px']:.3g} per pixel; R "
            f"{metrics['r_factor']:.3g}, {metrics['expected_r_factor']:.3g}). Likely causes: {_CAUSES}"
        )
        yield Finding(kind=Suspicion.POOR_FIT, text=text)


def beam_moved(beam_px: tuple[int, int]) -> Iterator[Finding]:
    """Yield that the direct beam is off the middle by (y, x) pixels, if it is."""
    if beam_px != (0, 0):
        text = "the direct beam is off the middle of the patterns by ({}, {}) px (y, x), which was taken out"
        yield Finding(kind=Suspicion.BEAM_MOVED, text=text.format(*beam_px))
