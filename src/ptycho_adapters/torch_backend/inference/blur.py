"""Patterns that are blurred: a source that is not quite coherent, a detector that spreads its counts.

A pattern that is blurred by a Gaussian is the sum of patterns that are shifted on the detector, and a shift there is a
slope of phase on the beam. So it is the light of a few incoherent modes: the probe under slopes of a Gaussian spread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch
from torch import Tensor

from ptycho_adapters.torch_backend.inference.hypotheses import orthogonal_modes
from ptycho_adapters.torch_backend.physics.optics import light_of

if TYPE_CHECKING:
    from ptycho_adapters.torch_backend.inference.whole_scan import WholeScan

_PATTERNS = 48
_WIDTHS_PX = (0.35, 0.6, 0.9, 1.3)
_NEARLY_ALL, _FEWEST_MODES, _MOST_MODES = 0.95, 3, 6
_NODES = 5  # of a Gauss-Hermite quadrature along either axis, exact to the ninth power of a slope


@attrs.frozen(kw_only=True, eq=False)
class Blur:
    """A Gaussian blur of the patterns.

    Attributes:
        width_px: standard deviation on the detector.
        modes: (M, N, N) complex64, orthogonal, with the energy of the probe.
        share: of what is above shot noise that three of them take away.
    """

    width_px: float
    modes: Tensor
    share: float


def blur_of(run: WholeScan, modes: int | None) -> Blur | None:
    """Look for a blur of the patterns, which is a few incoherent modes.

    Args:
        run: a pass under a probe of a single mode.
        modes: number of modes, at least 2; None takes those that hold nearly all of the light, three to six.

    Returns:
        The width that explains the patterns best; None if none does it better than no blur.
    """
    few = run.around_the_middle(_PATTERNS)
    sharp = few.judge_itself()
    beams = {width: blurred(run.probe, width, _FEWEST_MODES) for width in _WIDTHS_PX}
    deviance = {width: attrs.evolve(few, probe=beam).judge_itself().deviance for width, beam in beams.items()}
    width = min(deviance, key=deviance.__getitem__)
    gain = sharp.deviance - deviance[width]
    if gain <= 0.0 or sharp.excess <= 0.0:
        return None
    return Blur(width_px=width, modes=blurred(run.probe, width, modes), share=gain / sharp.excess)


def blurred(probe: Tensor, width_px: float, modes: int | None) -> Tensor:
    """Give a beam whose patterns are those of a probe blurred, as its strongest modes with all of its energy.

    Args:
        probe: (1, N, N) complex64.
        width_px: standard deviation of the blur.
        modes: how many; None takes those that hold nearly all of the light, three to six.

    Returns:
        (modes, N, N) complex64, orthogonal.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    size, device = probe.shape[-1], probe.device
    slopes = 2.0 * np.pi * width_px / size * torch.tensor(nodes, dtype=torch.float32, device=device)
    shares = torch.tensor(weights / weights.sum(), dtype=torch.float32, device=device)
    middle = torch.arange(size, dtype=torch.float32, device=device) - (size - 1) / 2
    ramps = torch.polar(shares.sqrt()[:, None].expand(-1, size), slopes[:, None] * middle)
    copies = probe * (ramps[:, None, :, None] * ramps[None, :, None, :]).flatten(0, 1)
    strongest = orthogonal_modes(copies)
    strongest = strongest[: _enough(strongest) if modes is None else modes]
    return strongest * (light_of(probe).sum() / light_of(strongest).sum()).sqrt()


def _enough(modes: Tensor) -> int:
    """How many modes (M, N, N), the strongest first, hold nearly all of the light."""
    held = light_of(modes[:, None]).sum(dim=(-2, -1)).cumsum(dim=0)
    number = 1 + int((held < _NEARLY_ALL * held[-1]).sum())
    return min(max(number, _FEWEST_MODES), _MOST_MODES)
