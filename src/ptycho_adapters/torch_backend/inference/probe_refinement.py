"""Refinement of a probe under a trained network, without training: object and probe in turn.

The network gives the object that belongs to the present probe; the probe then moves to where it explains the patterns
better with that object. It is what an iterative solver does, with a network pass in the place of many object steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import torch

from ptycho_adapters.torch_backend.bars import counted
from ptycho_adapters.torch_backend.physics.canvas import extract
from ptycho_adapters.torch_backend.physics.data_consistency import exit_wave_excess
from ptycho_adapters.torch_backend.physics.optics import light_of, shift_probe, subpixel_ramps

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from ptycho_adapters.torch_backend.inference.whole_scan import WholeScan

ROUNDS_BEFORE_A_RECONSTRUCTION, ROUNDS_BEFORE_A_TRAINING = 8, 30
_PATTERNS = 256  # say all about the probe, however large the scan
_STEPS_PER_ROUND = 3
_DARK_SHARE = 0.05  # of the largest summed object intensity, added to the divisor


@torch.no_grad()
def refine_probe(
    start: WholeScan, rounds: int, *, show_progress: bool = False, enough: Callable[[], bool] = lambda: False
) -> Tensor:
    """Refine the probe of a pass.

    Args:
        start: network, patterns and first probe; if there are many patterns, those around their middle are used.
        rounds: network passes, each followed by a few probe steps; 0 leaves the probe as it is.
        show_progress: on standard error.
        enough: asked before each round; no more are made once it says so.

    Returns:
        (modes, N, N) complex64, of the same energy.
    """
    few = start.around_the_middle(_PATTERNS)
    probe = start.probe
    for _ in counted(rounds, "probe", shown=show_progress):
        if enough():
            break
        object_, _ = attrs.evolve(few, probe=probe).stitch()
        for _ in range(_STEPS_PER_ROUND):
            probe = _stepped(few, probe, object_[None])
    return probe


def _stepped(scan_pass: WholeScan, probe: Tensor, object_: Tensor) -> Tensor:
    """Least-squares step of the probe for a given object: mean change asked for by all patterns, energy kept."""
    scan = scan_pass.scan
    asked = torch.zeros_like(probe)
    seen = torch.zeros(probe.shape[-2:], device=probe.device)
    for batch in scan_pass.indices.split(scan_pass.batch_size):
        group = scan.gather(batch[None])
        where = scan_pass.canvas.indices(group.starts, scan_pass.origin, scan.size)
        patches = extract(object_, where, scan.size)
        probes = shift_probe(probe, group.fractions_px)
        excess = exit_wave_excess(group.counts.sqrt(), probes, patches, scan.good_pixels)
        change = torch.fft.fft2(patches.conj()[:, :, None] * excess)
        back = subpixel_ramps(-group.fractions_px, scan.size)[:, :, None]
        asked = asked + torch.fft.ifft2((change * back).sum(dim=(0, 1)))
        seen = seen + (patches.real.square() + patches.imag.square()).sum(dim=(0, 1))
    moved = probe + asked / (seen + _DARK_SHARE * seen.amax())
    return moved * (light_of(probe).sum() / light_of(moved).sum()).sqrt()
