"""What may be wrong with a scan altogether: the orientation of its positions, its probe, a beam that moved in a frame.

Each hypothesis is a pass with something changed. It is taken where some patterns around the middle are explained
clearly better by it, and none is looked for where the scan as it is explains them well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch
from torch import Tensor

from ptycho_adapters.torch_backend.inference.probe_refinement import dark_level
from ptycho_adapters.torch_backend.physics.optics import light_of, shift_probe
from ptycho_adapters.torch_backend.physics.probe import aberration_basis

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ptycho_adapters.common.candidates import Judgement
    from ptycho_adapters.torch_backend.inference.whole_scan import WholeScan

_PATTERNS, _PATTERNS_FOR_A_PROBE, _PATTERNS_FOR_A_MOTION = 64, 32, 48
_CLEARLY_BETTER = 0.8  # of the misfit
_MOTION_GAIN = 0.15  # of what is above shot noise at rest
_MOTION_DIRECTED = 1.4  # times the gain of the motion across: what helps in all directions is another fault
_FOCUS_RANGE_RAD, _FOCUS_STEP_RAD, _FOCUS_HALVINGS = 12.0, 2.0, 3
_MOTION_LENGTHS_PX = (5.0, 2.5, 8.0)  # the first along all directions, the others along the best
_MOTION_ANGLES_RAD = tuple((np.pi / 4 * np.arange(4)).tolist())
_PARALLEL = 1e-3  # share of the light below which a mode says what another one says already
_NEW_SHARE = 0.03  # of the light, for a mode that nothing is known about


@attrs.frozen(kw_only=True)
class Orientation:
    """How positions have to be turned over: axes exchanged first, then each mirrored.

    Attributes:
        exchange: whether y and x are exchanged.
        mirror_y: whether y then runs the other way.
        mirror_x: whether x then runs the other way.
    """

    exchange: bool = False
    mirror_y: bool = False
    mirror_x: bool = False

    def __str__(self) -> str:
        words = ["y and x are swapped"] if self.exchange else []
        words += [f"{axis} is mirrored" for axis, is_so in (("y", self.mirror_y), ("x", self.mirror_x)) if is_so]
        return " and ".join(words) or "as given"

    def applied(self, run: WholeScan) -> WholeScan:
        """Give a pass with its positions turned over about their mean."""
        places = run.positions_px()
        offset = places - places.mean(dim=0)
        turned = offset.flip(1) if self.exchange else offset
        signs = torch.tensor([-1.0 if each else 1.0 for each in (self.mirror_y, self.mirror_x)], dtype=turned.dtype)
        return run.moved(turned * signs.to(turned.device) - offset)


ORIENTATIONS = tuple(
    Orientation(exchange=exchange, mirror_y=mirror_y, mirror_x=mirror_x)
    for exchange in (False, True)
    for mirror_y in (False, True)
    for mirror_x in (False, True)
)


def misfit_ratio(run: WholeScan) -> float:
    """Deviance of some patterns around the middle over what shot noise leaves; 1 is a perfect fit."""
    return fit_in_the_middle(run).misfit_ratio


def fit_in_the_middle(run: WholeScan) -> Judgement:
    """Say how well some patterns around the middle are explained."""
    return run.around_the_middle(_PATTERNS).judge_itself()


def better_orientation(run: WholeScan) -> Orientation | None:
    """Find the one of the eight orientations of the positions that clearly explains the patterns best.

    Returns:
        None if that is the one that they have, or if none is clearly better.
    """
    few = run.around_the_middle(_PATTERNS)
    best = min(ORIENTATIONS, key=lambda each: each.applied(few).glance().deviance)
    if best == ORIENTATIONS[0]:
        return None
    turned, given = best.applied(few).judge_itself(), few.judge_itself()
    return best if turned.deviance < _CLEARLY_BETTER * given.deviance else None


def probe_from_patterns(run: WholeScan) -> Tensor | None:
    """Make a probe out of the mean pattern: its root is the modulus of the far field, and the focus is looked for.

    Returns:
        (1, N, N) complex64 at the energy of the present probe; None if it is not clearly better than that one.
    """
    few = run.around_the_middle(_PATTERNS_FOR_A_PROBE)
    light = run.scan.mean_counts - dark_level(run.scan.mean_counts, run.scan.good_pixels)
    far = light.clamp_min(0.0).sqrt().to(torch.complex128)
    size = run.scan.size
    half = torch.full((1, 2), (size - 1) / 2, dtype=torch.float32)
    in_focus = shift_probe(torch.fft.ifft2(far)[None], half)[0].to(torch.complex64)
    basis = aberration_basis(in_focus)[0]

    def probe_at(focus_rad: float) -> Tensor:
        phase = torch.polar(torch.ones_like(basis), focus_rad * basis)
        probe: Tensor = torch.fft.ifft2(torch.fft.fft2(in_focus) * phase).to(run.probe.device)
        return probe * (light_of(run.probe).sum() / light_of(probe).sum()).sqrt()

    def misfit(focus_rad: float) -> float:
        return attrs.evolve(few, probe=probe_at(focus_rad)).glance().deviance

    steps = round(_FOCUS_RANGE_RAD / _FOCUS_STEP_RAD)
    tried = {step * _FOCUS_STEP_RAD: misfit(step * _FOCUS_STEP_RAD) for step in range(-steps, steps + 1)}
    width = _FOCUS_STEP_RAD
    for _ in range(_FOCUS_HALVINGS):
        width /= 2
        best = min(tried, key=tried.__getitem__)
        tried |= {focus: misfit(focus) for focus in (best - width, best + width)}
    best = min(tried, key=tried.__getitem__)
    made = attrs.evolve(few, probe=probe_at(best))
    return made.probe if made.judge_itself().deviance < _CLEARLY_BETTER * few.judge_itself().deviance else None


@attrs.frozen(kw_only=True, eq=False)
class Motion:
    """A beam that moves over the object along a line within each frame.

    Attributes:
        length_px: of the way.
        angle_rad: of the way, from x towards y.
        modes: (M, N, N) complex64, the probe at even steps of the way, with its energy shared among them.
        share: of what is above shot noise that it takes away.
    """

    length_px: float
    angle_rad: float
    modes: Tensor
    share: float


def motion_of(run: WholeScan, modes: int) -> Motion | None:
    """Look for a motion of the beam within the frames, which is a few incoherent modes.

    Args:
        run: a pass under a probe at rest, of a single mode.
        modes: number of modes, at least 2.

    Returns:
        None if no motion explains the patterns clearly better than rest, and than the motion across it.
    """
    few = run.around_the_middle(_PATTERNS_FOR_A_MOTION)
    # Not at a glance: there all ways look alike, and long ones better than they are.

    def deviance(length_px: float, angle_rad: float) -> float:
        return attrs.evolve(few, probe=_smeared(run.probe, length_px, angle_rad, modes)).judge_itself().deviance

    rest = few.judge_itself()
    at_rest = rest.deviance
    along = {angle: deviance(_MOTION_LENGTHS_PX[0], angle) for angle in _MOTION_ANGLES_RAD}
    angle = min(along, key=along.__getitem__)
    gain, gain_across = at_rest - along[angle], at_rest - max(along.values())
    if gain <= 0.0 or gain < _MOTION_DIRECTED * gain_across:
        return None
    lengths = {length: deviance(length, angle) for length in _MOTION_LENGTHS_PX[1:]}
    lengths[_MOTION_LENGTHS_PX[0]] = along[angle]
    length = min(lengths, key=lengths.__getitem__)
    across = deviance(length, angle + np.pi / 2)
    gain, gain_across = at_rest - lengths[length], at_rest - across
    if gain < _MOTION_GAIN * rest.excess or gain < _MOTION_DIRECTED * gain_across:
        return None
    smeared = _smeared(run.probe, length, angle, modes)
    return Motion(length_px=length, angle_rad=angle, modes=smeared, share=gain / rest.excess)


def _smeared(still: Tensor, length_px: float, angle_rad: float, modes: int) -> Tensor:
    way = torch.tensor([np.sin(angle_rad), np.cos(angle_rad)], dtype=torch.float32)
    shifts = length_px * torch.linspace(-0.5, 0.5, modes)[:, None] * way
    copies: Tensor = shift_probe(still, shifts.to(still.device))[:, 0] / modes**0.5
    return copies


def orthogonal_modes(probe: Tensor) -> Tensor:
    """Give the same illumination in modes that are orthogonal, the strongest first; empty ones are left out.

    Args:
        probe: (modes, N, N) complex64.
    """
    if len(probe) == 1:
        return probe
    flat = probe.flatten(1).to(torch.complex128)
    values, vectors = torch.linalg.eigh(flat @ flat.conj().T)
    kept = values.flip(0) > _PARALLEL * values.sum()
    mixed: Tensor = (vectors.flip(1).conj().T @ flat)[kept].reshape(-1, *probe.shape[1:])
    return mixed.to(torch.complex64)


def with_more_modes(probe: Tensor, modes: int) -> Tensor:
    """Bring a probe to a number of modes: the weakest are left out, new ones start small and orthogonal.

    New modes are derivatives of the first, which is what a small motion adds.

    Args:
        probe: (modes, N, N) complex64, orthogonal.
        modes: at most 6 more than there are.
    """
    energy = light_of(probe).sum()
    made = list(probe[:modes])
    for candidate in _derivatives(probe[0]):
        if len(made) >= modes:
            break
        rest = candidate
        for other in made:
            rest = rest - (other.conj() * rest).sum() / (other.conj() * other).sum() * other
        made.append(rest * (_NEW_SHARE * energy / rest.abs().square().sum()).sqrt())
    all_of_them = torch.stack(made)
    return all_of_them * (energy / light_of(all_of_them).sum()).sqrt()


def _derivatives(mode: Tensor) -> Iterable[Tensor]:
    frequency = torch.fft.fftfreq(mode.shape[-1], device=mode.device)
    y, x = frequency[:, None], frequency[None, :]
    spectrum = torch.fft.fft2(mode)
    for factor in (y, x, y * x, y * y + 0 * x, x * x + 0 * y, y * y * x, x * x * y):
        yield torch.fft.ifft2(spectrum * factor)
