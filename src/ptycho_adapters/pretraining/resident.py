"""Objects and beams of specimens, as tensors, from a material that lies on the device."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch
from torch import Tensor

from ptycho_adapters.pretraining.material import TEXTURE_EDGE
from ptycho_adapters.torch_backend.physics.optics import detector_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from ptycho_adapters.pretraining.material import Material
    from ptycho_adapters.pretraining.recipe import Misjudgement, Specimen

_BEYOND_PUPIL, _LARGEST_DEFOCUS = 1.3, 3.0
_TINY = 1e-12


@attrs.frozen(kw_only=True, eq=False)
class ResidentMaterial:
    """A material on a device.

    Attributes:
        textures: (n, 2, E, E) float16.
        modes: by frame size, (n, 3, N, N) complex64.
    """

    textures: Tensor
    modes: Mapping[int, Tensor]

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return self.textures.device


def to_device(material: Material, device: torch.device) -> ResidentMaterial:
    """Bring a material to a device."""
    modes = {size: torch.tensor(beams.modes, device=device) for size, beams in material.beams.items()}
    return ResidentMaterial(textures=torch.tensor(material.textures, device=device), modes=modes)


def put(values: npt.ArrayLike, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Bring a few numbers to a device without waiting for what it has to do."""
    return torch.from_numpy(np.array(values)).to(dtype).to(device, non_blocking=True)


def objects(
    specimens: Sequence[Specimen], material: ResidentMaterial, shape: tuple[int, int], margin_px: int
) -> Tensor:
    """Make objects with their wedges.

    A beam that is off the middle by a slope of phase over its frame gives the same patterns as the beam in the middle
    and an object with that slope: a network that is told of the latter can only find that object, so it is made here.

    Args:
        specimens: of one frame size.
        material: what they are made of.
        shape: of the canvases, with the margin.
        margin_px: around the canvas that the network knows; a window that leaves its texture comes in at the other end.

    Returns:
        (B, H, W) complex64.
    """
    device = material.device
    phase, absorption = _blends(specimens, material, shape, margin_px)
    depth = put([each.object.phase_rad * each.faults.depth for each in specimens], device)[:, None, None]
    absorbed = put([1 - each.object.lowest_amplitude for each in specimens], device)[:, None, None]
    angles = depth * (phase - 0.5) + _slopes(specimens, device, shape, margin_px)
    return torch.polar(1 - absorbed * absorption, angles)


def _blends(
    specimens: Sequence[Specimen], material: ResidentMaterial, shape: tuple[int, int], margin_px: int
) -> tuple[Tensor, Tensor]:
    """Cut windows of textures and blend them to phases and absorptions (B, H, W) in [0, 1]."""
    device, drawn = material.device, [each.object for each in specimens]
    which = put([each.textures for each in drawn], device, torch.int64)[:, :, None, None, None]
    corners = put([each.corners for each in drawn], device, torch.int64) - margin_px
    exchanged = put([each.exchanged for each in drawn], device, torch.int64)
    shares = put([each.shares for each in drawn], device)
    image = (exchanged[..., None] + torch.arange(2, device=device)) % 2
    rows, columns = (
        (corners[..., axis, None] + torch.arange(edge, device=device)) % TEXTURE_EDGE for axis, edge in enumerate(shape)
    )
    cut = material.textures[which, image[..., None, None], rows[:, :, None, :, None], columns[:, :, None, None, :]]
    phase, absorption = torch.einsum("bjk,bkjhw->jbhw", shares, cut.float())
    return phase, absorption


def _slopes(specimens: Sequence[Specimen], device: torch.device, shape: tuple[int, int], margin_px: int) -> Tensor:
    """Phases (B, H, W) of wedges and of beams beside the middle, from the middle of the canvas that is known."""
    faults = [each.faults for each in specimens]
    middles = put([(each.starts.max(axis=0) + each.size - 1) / 2 + margin_px for each in specimens], device)
    y, x = (torch.arange(edge, device=device) - middles[:, axis, None] for axis, edge in enumerate(shape))

    def along(slope: Tensor) -> Tensor:
        return slope[:, 0, None, None] * y[:, :, None] + slope[:, 1, None, None] * x[:, None, :]

    wedge = put([each.wedge_rad_per_px for each in faults], device)
    first = put([math.hypot(*each.wedge_rad_per_px) * each.wedge_offset_px for each in faults], device)
    beam = put([each.beam_px for each in faults], device) * (2 * math.pi / specimens[0].size)
    return (along(wedge) - first[:, None, None]).clamp_min(0) * (wedge != 0).any(dim=1)[:, None, None] + along(beam)


def true_beams(specimens: Sequence[Specimen], material: ResidentMaterial) -> Tensor:
    """Give beams (B, modes, N, N) complex64 at their doses, in the middle of the frame and at rest."""
    return _beams(specimens, material, [each.faults.untold_modes or each.mode_shares for each in specimens])


def told_beams(specimens: Sequence[Specimen], material: ResidentMaterial) -> Tensor:
    """Give what the network knows of them, at the same doses."""
    told = _beams(specimens, material, [(1.0,) if each.faults.untold_modes else each.mode_shares for each in specimens])
    return _turned(told, [each.misjudged for each in specimens])


def _beams(specimens: Sequence[Specimen], material: ResidentMaterial, shares: Sequence[tuple[float, ...]]) -> Tensor:
    most, device = max(map(len, shares)), material.device
    light = [[*each, *[0.0] * (most - len(each))] for each in shares]
    photons = put(light, device) * put([each.dose for each in specimens], device)[:, None]
    chosen = material.modes[specimens[0].size][put([each.beam for each in specimens], device, torch.int64), :most]
    return chosen * photons.sqrt()[..., None, None]


def _turned(probes: Tensor, misjudged: Sequence[Misjudgement | None]) -> Tensor:
    """Put aberrations and defocus into the pupils of beams (B, modes, N, N): `aberrate` of the core on a device."""
    if not any(misjudged):
        return probes
    device = probes.device
    wrong = [(0.0, 0.0) if each is None else (each.aberration_rad, each.defocus_rad) for each in misjudged]
    aberration, defocus = put(wrong, device).T[..., None, None]
    coefficients = put([np.zeros(7) if each is None else each.coefficients for each in misjudged], device)
    pupil = torch.fft.fftshift(torch.fft.fft2(detector_order(probes), norm="ortho"), dim=(-2, -1))
    weight = pupil.abs().square().sum(dim=1)
    weight = weight / weight.sum(dim=(-2, -1), keepdim=True)
    place = torch.arange(probes.shape[-1], device=device, dtype=torch.float32) - probes.shape[-1] // 2
    radius2 = place[:, None].square() + place.square()
    extent = (2 * (weight * radius2).sum(dim=(-2, -1), keepdim=True)).sqrt()
    rho = (radius2.sqrt() / extent).clamp_max(_BEYOND_PUPIL)
    theta = torch.atan2(place[:, None].expand_as(radius2), place.expand_as(radius2))
    phase = torch.einsum("bk,bkyx->byx", coefficients, _aberrations(rho, theta))
    focus = _standardized(radius2.expand_as(weight), weight).clamp(-_LARGEST_DEFOCUS, _LARGEST_DEFOCUS)
    angles = aberration * _standardized(phase, weight) + defocus * focus
    turned = pupil * torch.polar(torch.ones_like(angles), angles)[:, None]
    back: Tensor = torch.fft.fftshift(torch.fft.ifft2(detector_order(turned), norm="ortho"), dim=(-2, -1))
    return back


def _aberrations(rho: Tensor, theta: Tensor) -> Tensor:
    """Astigmatism, coma, trefoil and spherical aberration (B, 7, N, N) over a pupil (B, N, N)."""
    round_coma, cubic = 3 * rho**3 - 2 * rho, rho**3
    shapes = [rho**2 * torch.cos(2 * theta), rho**2 * torch.sin(2 * theta)]
    shapes += [round_coma * torch.cos(theta), round_coma * torch.sin(theta)]
    shapes += [cubic * torch.cos(3 * theta), cubic * torch.sin(3 * theta), 6 * rho**4 - 6 * rho**2]
    return torch.stack(shapes, dim=1)


def _standardized(values: Tensor, weight: Tensor) -> Tensor:
    """Give values (B, N, N) a weighted mean of zero and a deviation of one."""
    centred = values - (weight * values).sum(dim=(-2, -1), keepdim=True)
    return centred / (weight * centred.square()).sum(dim=(-2, -1), keepdim=True).sqrt().clamp_min(_TINY)
