"""What a reconstruction gives, as an immutable value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs
import numpy as np
from numpy.typing import NDArray

from ptycho_core.frozen import FrozenMapping
from ptycho_core.measurement.findings import Finding
from ptycho_core.notebook import Picture, html_table, plot_with_entry_point
from ptycho_core.results.uncertainty import Uncertainty


@attrs.frozen(kw_only=True, eq=False)
class Reconstruction:
    """An object on its canvas, with what is needed to place, scale and judge it.

    Attributes:
        object: (H, W) complex64 transmission, in the scale of the scan's own probe; `scale`, transparent, where nothing
            was measured.
        coverage: (H, W) float32, summed probe intensity on each pixel in photons; 0 where nothing was measured.
        origin_px: canvas (y, x) of pixel [0, 0], in the frame of the scan's positions.
        probe: (modes, N, N) complex64, the illumination used, in the scale of the scan's own probe.
        probe_source: whether that is a refined probe of the model or the scan's own.
        given_positions_px: (n, 2) float64, where the scan has them; None when unknown.
        beam_px: (y, x) by which the direct beam was off pixel N // 2 of the stored patterns; the probe's slope of
            phase makes up for it.
        background_counts: counts per pixel that do not come from the beam.
        relative_flux: (n,) float64, of each of these frames over their mean; None where all are taken to be alike.
        probe_number: which one of the model's probes, counted from 0; None for the scan's own, or where it is unknown.
        positions_px: (n, 2) float64 positions (y, x) that were reconstructed, refined ones where they were moved.
        pattern_indices: (n,) int64 scan indices of those positions.
        scale: factor on the network's object that was applied on the way out; the network works at a probe whose
            energy is the scan's mean flux.
        gauge: what was fixed of the free global phase, scale and ramp, by name; nothing is fixed unless stated.
        metrics: figures that need no truth: `r_factor` of amplitudes, `deviance_per_px`, and what shot noise leaves of
            both: `expected_r_factor` belongs to each fit, and so differs between a pass and its finish; after a finish
            `finish_steps` and, where it was judged by pixels left out, `finish_gain`, by how much their summed half
            deviance fell, negative where it rose by no more than noise explains, and `finish_refused`, by how much it
            was above the start's at a place that they refused; where steps were taken, the same figures of the pass
            before under `pass_` names;
            `median_phase_std_rad` where there are error bars, and `counts_decide_phase_up_to_per_px`, the spatial
            frequency from which on the network says more of the phase than the counts do;
            `halves_apart_phase_in_bars` and `halves_apart_amplitude_in_bars`, where the bars were checked: how far two
            halves of the counts lead apart in what their bars say, 1 if they are right.
        before_finish: (H, W) complex64, the network's object on the same canvas where a finish changed it; None
            where none did.
        probe_refined: whether the probe's pixels were changed in this run.
        probe_stays: whether they were, and were changed back, since that explained no more than noise that is followed.
        r_factors: (n,) float64, the R-factor of each pattern by itself; None when unknown.
        seconds: duration of the stages, by name.
        findings: what was found wrong or put right, in the order in which it is to be said: by the reading of the
            scan, if it was read with a look at its detector, and on the way.
        uncertainty: how far the object may be off; None where nobody asked.
    """

    object: NDArray[np.complex64]
    coverage: NDArray[np.float32]
    origin_px: tuple[int, int]
    probe: NDArray[np.complex64]
    probe_source: Literal["model", "scan"]
    positions_px: NDArray[np.float64]
    pattern_indices: NDArray[np.int64]
    scale: float
    gauge: Mapping[str, str] = attrs.field(factory=dict, converter=FrozenMapping[str])
    metrics: Mapping[str, float] = attrs.field(factory=dict, converter=FrozenMapping[float])
    r_factors: NDArray[np.float64] | None = None
    before_finish: NDArray[np.complex64] | None = None
    probe_refined: bool = False
    probe_stays: bool = False
    probe_number: int | None = None
    given_positions_px: NDArray[np.float64] | None = None
    beam_px: tuple[int, int] = (0, 0)
    background_counts: float = 0.0
    relative_flux: NDArray[np.float64] | None = None
    seconds: Mapping[str, float] = attrs.field(factory=dict, converter=FrozenMapping[float])
    findings: tuple[Finding, ...] = ()
    uncertainty: Uncertainty | None = None

    @property
    def covered(self) -> NDArray[np.bool_]:
        """Where there is a measurement."""
        return self.coverage > 0

    def plot(self) -> Picture:
        """Draw amplitude, phase and probe, with the package installed for it (entry point `ptycho_core.plot`).

        Raises:
            DependencyError: no package that draws is installed.
        """
        return plot_with_entry_point(self)

    def _repr_html_(self) -> str:
        rows = {
            "object [px]": self.object.shape,
            "origin (y, x) [px]": self.origin_px,
            "covered": float(self.covered.mean()),
            "patterns": len(self.pattern_indices),
            "probe": f"{len(self.probe)} modes, from the {self.probe_source}",
            "scale": self.scale,
            **self.metrics,
        }
        return html_table("Reconstruction", rows)
