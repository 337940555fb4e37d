"""What a run can tell about a result beyond the result itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_core.any_array import AnyArray, describe
from ptycho_core.errors import Problem
from ptycho_core.frozen import FrozenMapping
from ptycho_core.measurement.arrays import as_complex, as_optional_float64, as_probe
from ptycho_core.measurement.findings import Finding


def _as_optional_probe(value: npt.ArrayLike | None) -> npt.NDArray[np.complex64] | None:
    return None if value is None else as_probe(value)


def _as_optional_complex(value: npt.ArrayLike | None) -> npt.NDArray[np.complex64] | None:
    return None if value is None else as_complex(value)


@attrs.frozen(kw_only=True, eq=False)
class RunDetails:
    """How a reconstruction came about. Every part may be unknown; arrays are read-only.

    Attributes:
        first_probe: (modes, N, N) complex64, the illumination before its refinement.
        before_finish: (H, W) complex64, the network's object on the object's canvas where a finish changed it.
        r_factors: (n,) float64, the R-factor of each reconstructed pattern.
        held_out_losses: (E,) float64, losses on what was held out, one per epoch of the training; NaN where there was
            none.
        epoch_steps: (E,) float64, steps of the training by the end of each epoch.
        loss_steps: (S,) float64, steps of the training by which a loss was taken down.
        step_losses: (S,) float64, mean training loss since the one before.
        loss_unit: what the losses of the training are; empty when unknown.
        settings: value of each setting, as it would be typed, by name.
        findings: what may be wrong with the scan or the fit, or was put right.
    """

    first_probe: npt.NDArray[np.complex64] | None = attrs.field(default=None, converter=_as_optional_probe)
    before_finish: npt.NDArray[np.complex64] | None = attrs.field(default=None, converter=_as_optional_complex)
    r_factors: npt.NDArray[np.float64] | None = attrs.field(default=None, converter=as_optional_float64)
    held_out_losses: npt.NDArray[np.float64] | None = attrs.field(default=None, converter=as_optional_float64)
    epoch_steps: npt.NDArray[np.float64] | None = attrs.field(default=None, converter=as_optional_float64)
    loss_steps: npt.NDArray[np.float64] | None = attrs.field(default=None, converter=as_optional_float64)
    step_losses: npt.NDArray[np.float64] | None = attrs.field(default=None, converter=as_optional_float64)
    loss_unit: str = ""
    settings: Mapping[str, str] = attrs.field(factory=dict, converter=FrozenMapping[str])
    findings: tuple[Finding, ...] = ()

    def problems(self, *, shape: tuple[int, ...], n_positions: int, n_losses: int) -> Iterator[Problem]:
        """Yield what does not fit a result with an object of a shape and so many positions and losses."""
        if self.first_probe is not None:
            probe = self.first_probe
            if probe.ndim != 3 or probe.dtype.kind != "c" or not probe.size or probe.shape[1] != probe.shape[2]:
                yield Problem(path="run.first_probe", expected="(modes, N, N) complex", found=describe(probe))
            elif not np.isfinite(probe).all():
                yield Problem(path="run.first_probe", expected="finite values", found="NaN or infinite ones")
        if self.before_finish is not None:
            before = self.before_finish
            if before.shape != shape or before.dtype.kind != "c":
                expected = f"the object's shape {shape}, complex"
                yield Problem(path="run.before_finish", expected=expected, found=describe(before))
            elif not np.isfinite(before).all():
                yield Problem(path="run.before_finish", expected="finite values", found="NaN or infinite ones")
        yield from _series_problems(self.r_factors, "run.r_factors", n_positions, finite=True)
        # A training that diverged, or held nothing out in an epoch, has a curve that says so.
        yield from _series_problems(self.held_out_losses, "run.held_out_losses", n_losses, finite=False)
        yield from _series_problems(self.epoch_steps, "run.epoch_steps", n_losses, finite=True)
        taken = 0 if self.loss_steps is None or not self.loss_steps.ndim else len(self.loss_steps)
        yield from _series_problems(self.loss_steps, "run.loss_steps", taken, finite=True)
        yield from _series_problems(self.step_losses, "run.step_losses", taken, finite=False)


def _series_problems(array: AnyArray | None, path: str, length: int, *, finite: bool) -> Iterator[Problem]:
    if array is None:
        return
    if array.shape != (length,) or array.dtype.kind != "f":
        yield Problem(path=path, expected=f"({length},) real numbers", found=describe(array))
    elif finite and not np.isfinite(array.astype(np.float64)).all():
        yield Problem(path=path, expected="finite values", found="NaN or infinite ones")
