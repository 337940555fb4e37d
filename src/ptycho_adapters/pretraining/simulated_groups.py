"""Specimens as tensors: photons drawn, and the object that the network should give for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor

from ptycho_adapters.torch_backend.data.resident import Canvas
from ptycho_adapters.torch_backend.generators import View
from ptycho_adapters.torch_backend.physics.canvas import accumulate
from ptycho_adapters.torch_backend.physics.optics import (
    detected_rate,
    detector_order,
    exit_waves,
    light_of,
    shift_probe,
)

if TYPE_CHECKING:
    from ptycho_adapters.pretraining.recipe import Specimen

_DIM, _UNLIT = 0.05, 0.02  # of the brightest canvas pixel: weighted less, and not at all
_FLAT_VARIANCE = 1e-3  # per pixel: an object without structure is not judged by its own nothing


@attrs.frozen(kw_only=True, eq=False)
class SimulatedGroup:
    """One group for supervised training.

    Attributes:
        view: all its patterns, (1, C, ...).
        light: (1, H, W) float32, the summed light.
        target: (1, H, W) complex64, the object in the network's scale.
    """

    view: View
    light: Tensor
    target: Tensor


@torch.no_grad()
def expose(specimen: Specimen, photons: torch.Generator) -> SimulatedGroup:
    """Draw the photons of a specimen.

    The network is given a probe whose energy is the mean count, as it is on measured data, where nobody knows how much
    the sample absorbs; the target carries the rest of the scale.
    """
    size = specimen.probe.shape[-1]
    canvas = Canvas(height=specimen.object.shape[0], width=specimen.object.shape[1])
    where = canvas.indices(torch.tensor(specimen.starts), torch.zeros(2, dtype=torch.int64), size)[None]
    fractions = torch.tensor(specimen.fractions_px)[None]
    object_ = torch.tensor(specimen.object)
    patches = object_.reshape(-1)[where].reshape(1, -1, size, size)
    rate = detected_rate(exit_waves(patches, shift_probe(torch.tensor(specimen.probe), fractions)))
    counts = torch.poisson(rate * torch.tensor(specimen.flux)[:, None, None], generator=photons)
    flux = counts.sum() / counts.shape[1]
    energy = light_of(torch.tensor(specimen.probe)).sum()
    known = torch.tensor(specimen.known_probe) * (flux / energy).sqrt()
    good = None
    if specimen.good_pixels is not None:
        good = detector_order(torch.tensor(specimen.good_pixels))
        counts = counts * good
    probes = shift_probe(known, fractions)
    light = light_of(probes)
    return SimulatedGroup(
        view=View(amplitude=counts.sqrt(), probes=probes, weight=light, where=where, good_pixels=good),
        light=accumulate(light, where, canvas.pixels).reshape(1, canvas.height, canvas.width),
        target=(object_ * (energy / flux).sqrt())[None],
    )


def relative_error(object_: Tensor, group: SimulatedGroup) -> Tensor:
    """Squared error of an object (1, H, W) over the target's variance, light-weighted, constant phase free."""
    weight = _say(group.light)
    overlap = (weight * object_.conj() * group.target).sum().detach()
    turned = object_ * (overlap / overlap.abs().clamp_min(1e-12))
    return _over_variance(turned - group.target, group.target, weight)


def relative_amplitude_error(object_: Tensor, group: SimulatedGroup) -> Tensor:
    """The same of the modulus alone, whose variance is often a small part of the object's."""
    modulus = group.target.abs()
    return _over_variance(object_.abs() - modulus, modulus, _say(group.light))


def _say(light: Tensor) -> Tensor:
    """How much each canvas pixel has to say."""
    brightest = light.amax()
    return torch.where(light > _UNLIT * brightest, light / (light + _DIM * brightest), 0.0)


def _over_variance(error: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    mean = (weight * target).sum() / weight.sum()
    variance = (weight * (target - mean).abs().square()).sum()
    return (weight * error.abs().square()).sum() / (variance + _FLAT_VARIANCE * weight.sum())
