"""Steps of single scan positions for a given object.

A pattern that was taken beside where it is said to be asks for a change of its exit wave that looks like the object's
slope under the probe. Two numbers per pattern follow from a least-squares fit (Gauss-Newton; position correction as in
Odstrcil, Menzel & Guizar-Sicairos 2018, doi:10.1364/OE.26.003108).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor

from ptycho_adapters.torch_backend.physics.canvas import extract
from ptycho_adapters.torch_backend.physics.data_consistency import exit_wave_excess
from ptycho_adapters.torch_backend.physics.optics import exit_waves

if TYPE_CHECKING:
    from ptycho_adapters.torch_backend.inference.whole_scan import WholeScan

_STEPS = 2  # for one object
_LONGEST_PX = 1.0  # step: the slope says nothing about what is further away
_STIFFNESS = 0.02  # of the mean curvature, added to that of each pattern: keeps those on a flat object where they are
_PRECISION_PER_CURVATURE = 4.0  # the root of counts has a variance of 1/4
_LEAST_SPREAD_PX = 0.3


@attrs.frozen(kw_only=True, eq=False)
class Moves:
    """By how much patterns want to be moved.

    Attributes:
        px: (n, 2) float64, (y, x).
        noise_px: root mean square over the patterns of what shot noise alone would make them ask for.
    """

    px: Tensor
    noise_px: float

    @property
    def rms_px(self) -> float:
        """Root mean square over the patterns."""
        return float(self.px.square().sum(dim=1).mean().sqrt())


@attrs.frozen(kw_only=True, eq=False)
class Pull:
    """What patterns ask of their positions.

    Attributes:
        curvature: (n, 2, 2) float64, how sharply each knows.
        slope: (n, 2) float64, which way; curvature times the move that is asked for.
    """

    curvature: Tensor
    slope: Tensor


def single_moves(scan_pass: WholeScan, object_: Tensor, already_px: Tensor) -> Moves:
    """Moves that each pattern asks for by itself; their mean, a free choice, is left out.

    Args:
        scan_pass: patterns, probe and present positions.
        object_: (pixels,) complex64 on the pass' canvas.
        already_px: (n, 2) float64, by how much the patterns are off the positions of the stage by now. They are taken
            for draws from one distribution, whose spread holds back those that know little.
    """
    spread = already_px.square().mean().sqrt().clamp_min(_LEAST_SPREAD_PX)
    prior = 1.0 / (_PRECISION_PER_CURVATURE * spread.square())
    unit = torch.eye(2, dtype=torch.float64, device=already_px.device)
    total, known = torch.zeros_like(already_px), unit
    for _ in range(_STEPS):
        pull = _pull(scan_pass, object_, total)
        stiffness = _STIFFNESS * pull.curvature.diagonal(dim1=-2, dim2=-1).mean() + prior
        wanted = pull.slope - prior * (already_px + total)
        known = torch.linalg.inv(pull.curvature + stiffness * unit)
        total = total + (known @ wanted[..., None])[..., 0].clamp(-_LONGEST_PX, _LONGEST_PX)
    variance = known.diagonal(dim1=-2, dim2=-1).sum(dim=-1).mean() / _PRECISION_PER_CURVATURE
    return Moves(px=total - total.mean(dim=0), noise_px=float(variance.sqrt()))


def _pull(scan_pass: WholeScan, object_: Tensor, moves_px: Tensor) -> Pull:
    """Normal equations of all patterns when they are moved by (n, 2) from where they are."""
    scan, canvas = scan_pass.scan, scan_pass.canvas
    slopes = _slopes(object_.reshape(canvas.height, canvas.width))
    curvature, slope = [], []
    batches = scan.gathered(scan_pass.indices, scan_pass.batch_size)
    for (_, group), moves in zip(batches, moves_px.split(scan_pass.batch_size), strict=True):
        where = canvas.indices(group.starts, scan_pass.origin, scan.size)
        there = attrs.evolve(group, fractions_px=group.fractions_px + moves[None].to(torch.float32))
        probes = there.probes(scan_pass.probe)
        patches, down, right = (extract(each.reshape(1, -1), where, scan.size) for each in (object_, *slopes))
        excess = exit_wave_excess(group.counts.sqrt(), probes, patches, scan.good_pixels, scan_pass.background)
        along = [exit_waves(each, probes) for each in (down, right)]
        curvature.append(torch.stack([torch.stack([_inner(a, b) for b in along], dim=-1) for a in along], dim=-2))
        slope.append(torch.stack([_inner(a, excess) for a in along], dim=-1))
    return Pull(curvature=torch.cat(curvature).double(), slope=torch.cat(slope).double())


def _slopes(image: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences of (H, W) along y and x, 0 at the rim."""
    down, right = torch.zeros_like(image), torch.zeros_like(image)
    down[1:-1] = (image[2:] - image[:-2]) / 2
    right[:, 1:-1] = (image[:, 2:] - image[:, :-2]) / 2
    return down, right


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """Real inner products (C,) of waves (1, C, modes, N, N)."""
    return (a.conj() * b).real.sum(dim=(-3, -2, -1))[0]
