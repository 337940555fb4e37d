"""Steps of the probe and of the background for a given object.

The network gives the object that belongs to the present probe; the probe then moves to where it explains the patterns
better with that object. It is what an iterative solver does, with a network pass in the place of many object steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ptycho_adapters.torch_backend.data.resident import as_bright
from ptycho_adapters.torch_backend.parts import part
from ptycho_adapters.torch_backend.physics.canvas import extract
from ptycho_adapters.torch_backend.physics.data_consistency import exit_wave_excess
from ptycho_adapters.torch_backend.physics.optics import (
    detected_rate,
    exit_waves,
    light_of,
    subpixel_ramps,
)

if TYPE_CHECKING:
    from torch import Tensor

    from ptycho_adapters.torch_backend.inference.whole_scan import WholeScan

_DARK_SHARE = 0.05  # of the largest summed object intensity, added to the divisor
_LEAST_RATE = 0.05  # counts per pixel: keeps the weight of a dark pixel finite
_DARKEST_SHARE = 0.02  # of the pixels show the background at its purest


@part("probe steps")
def probe_step(scan_pass: WholeScan, object_: Tensor) -> Tensor:
    """Least-squares step of the probe for a given object: mean change asked for by all patterns, energy kept.

    Args:
        scan_pass: patterns and present probe.
        object_: (pixels,) complex64 on the pass' canvas.

    Returns:
        (modes, N, N) complex64.
    """
    scan, probe = scan_pass.scan, scan_pass.probe
    asked = torch.zeros_like(probe)
    seen = torch.zeros(probe.shape[-2:], device=probe.device)
    for _, group in scan.gathered(scan_pass.indices, scan_pass.batch_size):
        where = scan_pass.canvas.indices(group.starts, scan_pass.origin, scan.size)
        patches = extract(object_[None], where, scan.size)
        probes = group.probes(probe)
        excess = exit_wave_excess(group.counts.sqrt(), probes, patches, scan.good_pixels, scan_pass.background)
        change = torch.fft.fft2(patches.conj()[:, :, None] * excess)
        back = as_bright(subpixel_ramps(-group.fractions_px, scan.size)[:, :, None], group.relative_flux)
        asked = asked + torch.fft.ifft2((change * back).sum(dim=(0, 1)))
        light = patches.real.square() + patches.imag.square()
        seen = seen + (light if group.relative_flux is None else light * group.relative_flux[..., None, None]).sum(
            dim=(0, 1)
        )
    moved = probe + asked / (seen + _DARK_SHARE * seen.amax())
    return moved * (light_of(probe).sum() / light_of(moved).sum()).sqrt()


def dark_level(mean_counts: Tensor, good_pixels: Tensor | None) -> float:
    """First guess of a constant background: the middle of the darkest fiftieth of the mean pattern.

    Args:
        mean_counts: (N, N) mean of all patterns.
        good_pixels: (N, N), 0 where not to look; None means all are good.

    Returns:
        Counts per pixel; an upper bound where the beam's light reaches all pixels.
    """
    lit = mean_counts.flatten() if good_pixels is None else mean_counts[good_pixels.to(mean_counts.device) > 0]
    darkest = lit.sort().values[: max(1, round(_DARKEST_SHARE * lit.numel()))]
    return float(darkest.median())


def background_step(scan_pass: WholeScan, object_: Tensor) -> float:
    """One Newton step of a constant background under the Poisson likelihood, for a given object and probe.

    Args:
        scan_pass: patterns, probe and present background.
        object_: (pixels,) complex64 on the pass' canvas.

    Returns:
        Counts per pixel, never negative.
    """
    scan = scan_pass.scan
    slope, curvature = (torch.zeros((), dtype=torch.float64, device=object_.device) for _ in range(2))
    for _, group in scan.gathered(scan_pass.indices, scan_pass.batch_size):
        where = scan_pass.canvas.indices(group.starts, scan_pass.origin, scan.size)
        waves = exit_waves(extract(object_[None], where, scan.size), group.probes(scan_pass.probe))
        rate = detected_rate(waves) + (scan_pass.background + _LEAST_RATE)
        good = torch.ones_like(rate) if scan.good_pixels is None else scan.good_pixels
        slope += ((group.counts / rate - 1.0) * good).sum(dtype=torch.float64)
        curvature += ((group.counts + _LEAST_RATE) / rate.square() * good).sum(dtype=torch.float64)
    return max(0.0, scan_pass.background + float(slope / curvature))
