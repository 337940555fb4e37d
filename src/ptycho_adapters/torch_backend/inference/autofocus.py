"""A look for the probe's focus before the training, without any network.

A probe that is out of focus makes every patch a little too large or too small, so neighbouring patches disagree. One
data correction from an empty object and one average show that: the counts implied by the averaged object fit best in
focus. A training that starts far from there may settle on an object that makes up for the wrong probe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from ptycho_adapters.torch_backend.data.resident import group_canvas
from ptycho_adapters.torch_backend.physics.canvas import accumulate, extract
from ptycho_adapters.torch_backend.physics.data_consistency import asked_change
from ptycho_adapters.torch_backend.physics.optics import expected_counts, light_of, poisson_deviance

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from ptycho_adapters.torch_backend.data.resident import ResidentScan
    from ptycho_adapters.torch_backend.physics.probe import TrainableProbe

_PATTERNS = 64
_RANGE_RAD, _STEP_RAD = 2.0, 0.2
_DARK_SHARE = 0.05  # of the brightest pixel, added to the divisor
_FOCUS = 0  # index among the probe's aberrations


@torch.no_grad()
def focus_probe(probe: TrainableProbe, scan: ResidentScan, patterns: NDArray[np.integer], background: float) -> float:
    """Set a probe's focus coefficient to where neighbouring patterns agree best.

    Args:
        probe: its focus coefficient is changed in place.
        scan: the patterns.
        patterns: scan indices that may be looked at; up to 64 around their middle are.
        background: counts per pixel added to every rate.

    Returns:
        The coefficient, root-mean-square radians over the probe's angular spectrum; 0 if the start is best.
    """
    indices = _cluster(scan, patterns)
    tried = np.arange(-_RANGE_RAD, _RANGE_RAD + _STEP_RAD / 2, _STEP_RAD)
    misfit = np.array([_misfit(probe, scan, indices, float(focus), background) for focus in tried])
    best = int(misfit.argmin())
    focus = float(tried[best])
    if 0 < best < len(tried) - 1:
        before, least, after = misfit[best - 1 : best + 2]
        focus += 0.5 * _STEP_RAD * float((before - after) / (before - 2 * least + after))
    probe.aberrations[_FOCUS] = focus
    return focus


def _cluster(scan: ResidentScan, patterns: NDArray[np.integer]) -> Tensor:
    """Patterns around the middle of those given, as one group (1, C)."""
    chosen = np.unique(patterns)
    starts = scan.starts_on_host()[chosen]
    distance = np.square(starts - starts.mean(axis=0)).sum(axis=1)
    nearest = np.argsort(distance, kind="stable")[:_PATTERNS]
    return torch.tensor(chosen[nearest].astype(np.int64), device=scan.device)[None]


def _misfit(probe: TrainableProbe, scan: ResidentScan, indices: Tensor, focus: float, background: float) -> float:
    probe.aberrations[_FOCUS] = focus
    group = scan.gather(indices)
    probes = group.probes(probe())
    canvas = group_canvas(scan.starts_on_host(), indices.cpu().numpy().astype(np.int32), scan.size)
    where = canvas.indices(group.starts, group.starts.amin(dim=1, keepdim=True), scan.size)
    empty = torch.ones_like(group.counts, dtype=probes.dtype)
    asked = asked_change(group.counts.sqrt(), probes, empty, scan.good_pixels)
    light = accumulate(light_of(probes), where, canvas.pixels)
    object_ = 1.0 + accumulate(asked, where, canvas.pixels) / (light + _DARK_SHARE * light.amax())
    patches = extract(object_, where, scan.size)
    return float(poisson_deviance(expected_counts(patches, probes, background), group.counts, scan.good_pixels))
