"""Specimens as tensors: photons drawn, and the object that the network should give for them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch
from torch import Tensor

from ptycho_adapters.common.patterns import LEAST_BEAM_SHARE
from ptycho_adapters.pretraining.resident import objects, put, told_beams, true_beams
from ptycho_adapters.torch_backend.generators import View
from ptycho_adapters.torch_backend.physics.canvas import accumulate, extract, pixel_indices
from ptycho_adapters.torch_backend.physics.optics import (
    detected_rate,
    detector_order,
    exit_waves,
    light_of,
    shift_probe,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ptycho_adapters.pretraining.recipe import Specimen
    from ptycho_adapters.pretraining.resident import ResidentMaterial

_DIM, _UNLIT = 0.05, 0.02  # of the brightest canvas pixel: weighted less, and not at all
_FLAT_VARIANCE = 1e-3  # per pixel: an object without structure is not judged by its own nothing


@attrs.frozen(kw_only=True, eq=False)
class SimulatedGroups:
    """A batch of groups of one frame size for supervised training.

    Attributes:
        view: all their patterns, (B, C, ...).
        light: (B, H, W) float32, the summed light that the network knows of.
        target: (B, H, W) complex64, the objects in the network's scale.
    """

    view: View
    light: Tensor
    target: Tensor


@torch.no_grad()
def expose(
    specimens: Sequence[Specimen], material: ResidentMaterial, photons: torch.Generator | None
) -> SimulatedGroups:
    """Draw the photons of specimens of one frame size, on the material's device.

    The network is given a probe whose energy is the mean count less the background that it is told, as it is on
    measured data, where nobody knows how much the sample absorbs; the target carries the rest of the scale.
    """
    device, size = material.device, specimens[0].size
    height, width = np.max([each.starts.max(axis=0) for each in specimens], axis=0) + size
    margin = _margin_px(specimens)
    whole = objects(specimens, material, (int(height) + 2 * margin, int(width) + 2 * margin), margin)
    target = whole[:, margin : margin + height, margin : margin + width]
    counts = torch.poisson(_rates(specimens, material, whole, margin), generator=photons)
    told = put([each.faults.told_background_counts for each in specimens], device)
    total = counts.sum(dim=(1, 2, 3)) / counts.shape[1]
    flux = torch.maximum(total - told * size**2, LEAST_BEAM_SHARE * total)
    dose_over_flux = put([each.dose for each in specimens], device) / flux
    good = _good_pixels(specimens, device)
    fractions = put([each.fractions_px for each in specimens], device)
    told_probes = told_beams(specimens, material) * dose_over_flux.rsqrt()[:, None, None, None]
    probes = shift_probe(told_probes[:, None], fractions)
    light = light_of(probes)
    where = pixel_indices(put([each.starts for each in specimens], device, torch.int64), size, int(width))
    return SimulatedGroups(
        view=View(
            amplitude=(counts if good is None else counts * good).sqrt(),
            probes=probes,
            weight=light,
            where=where,
            good_pixels=good,
            background=told[:, None, None, None],
        ),
        light=accumulate(light, where, target[0].numel()).reshape(target.shape),
        target=target * dose_over_flux.sqrt()[:, None, None],
    )


def relative_errors(objects_: Tensor, groups: SimulatedGroups) -> Tensor:
    """Squared errors (B,) of objects (B, H, W) over the targets' variance, light-weighted, constant phase free."""
    weight = _say(groups.light)
    overlap = (weight * objects_.conj() * groups.target).sum(dim=(1, 2), keepdim=True).detach()
    turned = objects_ * (overlap / overlap.abs().clamp_min(1e-12))
    return _over_variance(turned - groups.target, groups.target, weight)


def relative_amplitude_errors(objects_: Tensor, groups: SimulatedGroups) -> Tensor:
    """The same of the modulus alone, whose variance is often a small part of the object's."""
    modulus = groups.target.abs()
    return _over_variance(objects_.abs() - modulus, modulus, _say(groups.light))


def _rates(specimens: Sequence[Specimen], material: ResidentMaterial, whole: Tensor, margin_px: int) -> Tensor:
    """Mean counts (B, C, N, N), detector order, of objects (B, H, W) with a margin, at the true positions."""
    device, size = material.device, specimens[0].size
    faults = [each.faults for each in specimens]
    starts, fractions = zip(*map(_true_positions, specimens), strict=True)
    where = pixel_indices(put(np.stack(starts) + margin_px, device, torch.int64), size, whole.shape[-1])
    patches, rest = extract(whole.flatten(1), where, size), put(fractions, device)
    beams, rate = true_beams(specimens, material), torch.zeros(patches.shape, device=device)
    for k in range(max(len(each.copies_px) for each in faults)):
        copies = [(each.copies_px[k], each.copy_shares[k]) for each in faults if k < len(each.copies_px)]
        which = put([j for j, each in enumerate(faults) if k < len(each.copies_px)], device, torch.int64)
        shifts, shares = (put(values, device) for values in zip(*copies, strict=True))
        moved = shift_probe(beams[which][:, None], rest[which] + shifts[:, None])
        rate.index_add_(0, which, shares[:, None, None, None] * detected_rate(exit_waves(patches[which], moved)))
    if any(each.point_spread_px for each in faults):
        rate = _spread(rate, put([each.point_spread_px for each in faults], device))
    flux = put([each.flux for each in specimens], device)[:, :, None, None]
    background = put([each.background_counts for each in faults], device)[:, None, None, None]
    hot = _hot_counts(specimens, device)
    return rate * flux + background if hot is None else rate * flux + background + hot


def _true_positions(specimen: Specimen) -> tuple[np.ndarray, np.ndarray]:
    """First pixels (C, 2) of the patches as they are, and the rest of the positions."""
    errors = specimen.faults.position_errors_px
    if errors is None:
        return specimen.starts, specimen.fractions_px
    first = specimen.starts + specimen.fractions_px + errors
    starts = np.floor(first + 0.5).astype(np.int64)
    return starts, first - starts


def _margin_px(specimens: Sequence[Specimen]) -> int:
    """How far patches may lie outside the canvas that the network knows."""
    errors = [each.faults.position_errors_px for each in specimens]
    return max(0 if each is None else math.ceil(np.abs(each).max()) + 1 for each in errors)


def _spread(rate: Tensor, deviations_px: Tensor) -> Tensor:
    """Blur patterns (B, C, N, N) by Gaussians (B,), around the frame's edges."""
    frequencies = torch.fft.fftfreq(rate.shape[-1], device=rate.device)
    falls = torch.exp(-2 * (math.pi * deviations_px[:, None] * frequencies).square())
    transfer = falls[:, None, :, None] * falls[:, None, None, :]
    blurred: Tensor = torch.fft.ifft2(torch.fft.fft2(rate) * transfer).real
    return blurred.clamp_min(0)


def _hot_counts(specimens: Sequence[Specimen], device: torch.device) -> Tensor | None:
    """Counts (B, 1, N, N), detector order, of hot pixels that the network takes for sound ones."""
    hot = [(each.faults, ~each.faults.hot_told) for each in specimens]
    if not any(untold.any() for _, untold in hot):
        return None
    frames = np.zeros((len(specimens), specimens[0].size ** 2), np.float32)
    for frame, (faults, untold) in zip(frames, hot, strict=True):
        frame[faults.hot_pixels[untold]] = faults.hot_counts[untold]
    return _frames(frames, specimens[0].size, device)


def _good_pixels(specimens: Sequence[Specimen], device: torch.device) -> Tensor | None:
    """Good pixels (B, 1, N, N), detector order, as the network is told; None if all of all are."""
    if all(each.good_pixels is None and not each.faults.hot_told.any() for each in specimens):
        return None
    frames = np.ones((len(specimens), specimens[0].size ** 2), np.float32)
    for frame, each in zip(frames, specimens, strict=True):
        if each.good_pixels is not None:
            frame[:] = each.good_pixels.ravel()
        frame[each.faults.hot_pixels[each.faults.hot_told]] = 0
    return _frames(frames, specimens[0].size, device)


def _frames(frames: np.ndarray, size: int, device: torch.device) -> Tensor:
    return detector_order(put(frames.reshape(-1, 1, size, size), device))


def _say(light: Tensor) -> Tensor:
    """How much each canvas pixel has to say."""
    brightest = light.amax(dim=(1, 2), keepdim=True)
    return torch.where(light > _UNLIT * brightest, light / (light + _DIM * brightest), 0.0)


def _over_variance(error: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    every = (1, 2)
    mean = (weight * target).sum(dim=every, keepdim=True) / weight.sum(dim=every, keepdim=True)
    variance = (weight * (target - mean).abs().square()).sum(dim=every)
    return (weight * error.abs().square()).sum(dim=every) / (variance + _FLAT_VARIANCE * weight.sum(dim=every))
