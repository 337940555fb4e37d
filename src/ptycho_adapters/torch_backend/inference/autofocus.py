"""A look for the probe's focus before the training, without any network.

A probe that is out of focus makes every patch a little too large or too small, so neighbouring patches disagree. One
data correction from an empty object and one average show that: the counts implied by the averaged object fit best in
focus. A training that starts far from there may settle on an object that makes up for the wrong probe.

A dip is believed if it lies within the range that was looked at and is deeper than its scatter over the patterns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from ptycho_adapters.torch_backend.data.resident import group_canvas
from ptycho_adapters.torch_backend.physics.canvas import accumulate, extract
from ptycho_adapters.torch_backend.physics.data_consistency import asked_change
from ptycho_adapters.torch_backend.physics.optics import (
    BACKGROUND_COUNTS,
    expected_counts,
    light_of,
    poisson_deviance,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from ptycho_adapters.torch_backend.data.resident import ResidentScan
    from ptycho_adapters.torch_backend.physics.probe import TrainableProbe

_PATTERNS = 64
_RANGE_RAD, _STEP_RAD = 2.0, 0.2
_DARK_SHARE = 0.05  # of the brightest pixel, added to the divisor
_LEAST_RAD = 0.2  # less is within reach of the probe's own steps, and as well made up for by other errors
_CLEAR_ERRORS = 4.0  # standard errors of the mean gain over the patterns
_FOCUS = 0  # index among the probe's aberrations


@torch.no_grad()
def look_for_focus(
    probe: TrainableProbe, scan: ResidentScan, patterns: NDArray[np.integer], background: float
) -> float:
    """Find the change of a probe's focus under which neighbouring patterns agree best.

    Args:
        probe: is left as it is.
        scan: the patterns.
        patterns: scan indices that may be looked at; up to 64 around their middle are.
        background: counts per pixel added to every rate.

    Returns:
        Root-mean-square radians over the probe's angular spectrum; 0 if nothing else is clearly better.
    """
    indices = _cluster(scan, patterns)
    before = float(probe.aberrations[_FOCUS].detach())
    tried = np.arange(-_RANGE_RAD, _RANGE_RAD + _STEP_RAD / 2, _STEP_RAD)
    misfits = np.array([_misfits(probe, scan, indices, before + float(focus), background) for focus in tried])
    probe.aberrations[_FOCUS] = before
    means = misfits.mean(axis=1)
    best, start = int(means.argmin()), len(tried) // 2
    if best in (0, start, len(tried) - 1):
        return 0.0
    gains = misfits[start] - misfits[best]
    if gains.mean() <= _CLEAR_ERRORS * gains.std() / np.sqrt(len(gains)):
        return 0.0
    below, least, above = means[best - 1 : best + 2]
    focus = float(tried[best]) + 0.5 * _STEP_RAD * float((below - above) / (below - 2 * least + above))
    return focus if abs(focus) >= _LEAST_RAD else 0.0


def refocused(probe: TrainableProbe, focus_rad: float) -> Tensor:
    """Give the probe (modes, N, N) with its focus changed by root-mean-square radians; the probe stays as it is."""
    before = float(probe.aberrations[_FOCUS].detach())
    with torch.no_grad():
        probe.aberrations[_FOCUS] = before + focus_rad
        changed: Tensor = probe().detach()
        probe.aberrations[_FOCUS] = before
    return changed


def _cluster(scan: ResidentScan, patterns: NDArray[np.integer]) -> Tensor:
    """Patterns around the middle of those given, as one group (1, C)."""
    chosen = np.unique(patterns)
    starts = scan.starts_on_host()[chosen]
    distance = np.square(starts - starts.mean(axis=0)).sum(axis=1)
    nearest = np.argsort(distance, kind="stable")[:_PATTERNS]
    return torch.tensor(chosen[nearest].astype(np.int64), device=scan.device)[None]


def _misfits(
    probe: TrainableProbe, scan: ResidentScan, indices: Tensor, focus: float, background: float
) -> NDArray[np.float64]:
    """Deviance per pixel of each pattern under the average of all, (C,)."""
    probe.aberrations[_FOCUS] = focus
    group = scan.gather(indices)
    probes = group.probes(probe())
    canvas = group_canvas(scan.starts_on_host(), indices.cpu().numpy().astype(np.int32), scan.size)
    where = canvas.indices(group.starts, group.starts.amin(dim=1, keepdim=True), scan.size)
    empty = torch.ones_like(group.counts, dtype=probes.dtype)
    asked = asked_change(group.counts.sqrt(), probes, empty, scan.good_pixels, background)
    light = accumulate(light_of(probes), where, canvas.pixels)
    object_ = 1.0 + accumulate(asked, where, canvas.pixels) / (light + _DARK_SHARE * light.amax())
    expected = expected_counts(extract(object_, where, scan.size), probes, background + BACKGROUND_COUNTS)
    each = [
        poisson_deviance(rate, counts, scan.good_pixels)
        for rate, counts in zip(expected[0], group.counts[0], strict=True)
    ]
    misfits: NDArray[np.float64] = torch.stack(each).double().cpu().numpy()
    return misfits
