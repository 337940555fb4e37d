"""How much of what a finish knows comes from its prior, by spatial frequency.

A finish is a mixture: inverse curvature times Fisher matrix of the truth, inverse curvature times precision of the
prior of the network's object. The trace of the latter over the waves of a ring, divided by their number, is the prior's
share there; one minus it is the share of degrees of freedom that the counts decide (Rodgers 2000, "Inverse Methods for
Atmospheric Sounding", chapter 2). Random vectors give the trace (Hutchinson 1990, doi:10.1080/03610919008812866).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ptycho_core.results.uncertainty import PriorByFrequency

if TYPE_CHECKING:
    from ptycho_adapters.torch_backend.finish.curvature import Curvature

RINGS = 16
"""Of equal width, up to half a wave per pixel."""

_SAMPLES = 4  # each of amplitude and phase
_SEED = 30_013


def prior_by_frequency(curvature: Curvature, *, samples: int = _SAMPLES) -> PriorByFrequency:
    """Say by rings of spatial frequency what share the prior has, in amplitude and phase, where there is light.

    Args:
        curvature: where the finish came to.
        samples: random vectors of each.
    """
    generator = torch.Generator().manual_seed(_SEED)
    ring, rings = _rings(curvature), torch.arange(RINGS + 1)
    unit, shares = torch.sgn(curvature.point.object), []
    for turn in (1.0, 1.0j):
        signs = 2.0 * torch.randint(2, (samples, len(curvature.lit)), generator=generator) - 1.0
        white = signs.to(unit.device) * curvature.lit
        pull = torch.stack([curvature.posterior.prior.pull(each) for each in turn * white * unit])
        answer = curvature.solved(pull)
        along = (answer * unit.conj() / turn).real * curvature.lit
        both = (_spectra(curvature, white), _spectra(curvature, along))
        sums = [
            torch.zeros(len(rings), device=unit.device).index_add_(0, ring, (both[0].conj() * each).real.sum(dim=0))
            for each in both
        ]
        shares.append((sums[1] / sums[0])[:RINGS].clamp(0.0, 1.0))
    amplitude, phase = (each.cpu().numpy() for each in shares)
    centres = (rings[:RINGS] + 0.5) * 0.5 / RINGS
    return PriorByFrequency(frequency_per_px=centres.numpy(), phase=phase, amplitude=amplitude)


def _rings(curvature: Curvature) -> Tensor:
    """The ring (pixels,) of each wave on the canvas; the last one takes what lies beyond half a wave per pixel."""
    canvas = curvature.posterior.measured.canvas
    y, x = (torch.fft.fftfreq(length, device=curvature.lit.device) for length in (canvas.height, canvas.width))
    return (torch.hypot(y[:, None], x[None]) * 2.0 * RINGS).long().clamp_max(RINGS).reshape(-1)


def _spectra(curvature: Curvature, images: Tensor) -> Tensor:
    """Transforms (k, pixels) of real images (k, pixels)."""
    canvas = curvature.posterior.measured.canvas
    spectra: Tensor = torch.fft.fft2(images.reshape(-1, canvas.height, canvas.width)).flatten(1)
    return spectra
