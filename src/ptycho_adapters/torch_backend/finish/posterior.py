"""How badly object and probe fit the counts and the network's object, and which way it gets better."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor

from ptycho_adapters.torch_backend.data.resident import Canvas, ResidentScan, as_bright
from ptycho_adapters.torch_backend.finish.point import Point
from ptycho_adapters.torch_backend.finish.prior import Prior
from ptycho_adapters.torch_backend.finish.stray import Stray, frequencies
from ptycho_adapters.torch_backend.parts import part as named_part
from ptycho_adapters.torch_backend.physics.canvas import add_patches, extract
from ptycho_adapters.torch_backend.physics.optics import (
    BACKGROUND_COUNTS,
    exit_waves,
    half_deviance,
    light_of,
    subpixel_ramps,
    sum_of_modes,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


LEFT_OUT = 0.02
"""Share of the pixels of each pattern that have no say where some are to tell."""

_PERIOD = 4096  # patterns with the same pixels left out are so far apart
_STRIDE = 1231  # between the pixels left out of neighbours: prime, so that all offsets come up
_SEED = 20_011


@attrs.frozen(kw_only=True, eq=False)
class Look:
    """What there is to see at a point.

    Attributes:
        misfit: half deviance of the counts, summed, plus the squared distance from the prior in its errors.
        left_out: (n,) float64, half deviance of the pixels that were left out, by pattern.
        slope: derivative of the misfit by the conjugates of object and probe; half of that by what is real.
    """

    misfit: float
    left_out: Tensor
    slope: Point


@attrs.frozen(kw_only=True, eq=False)
class Part:
    """Some patterns and what is needed of them.

    Attributes:
        counts: (1, b, N, N) float32, detector order.
        fitted: (1, b, N, N) float32, 1 where a pixel has a say.
        left_out: (1, b, N, N) float32, 1 where a good pixel has none.
        ramps: (1, b, 1, N, N) complex64, that move a probe's transform by the fraction of a pixel, and give it the
            flux of its frame.
        where: (1, b, N * N) int64 on the canvas.
    """

    counts: Tensor
    fitted: Tensor
    left_out: Tensor
    ramps: Tensor
    where: Tensor

    def probes(self, probe: Tensor) -> Tensor:
        """Move a probe (modes, N, N) to each position: (1, b, modes, N, N)."""
        moved: Tensor = torch.fft.ifft2(torch.fft.fft2(probe) * self.ramps)
        return moved


@attrs.frozen(kw_only=True, eq=False)
class Measured:
    """The patterns that a finish is about, and where they lie.

    Attributes:
        scan: the patterns.
        indices: (n,) int64, those that take part.
        canvas: holds every patch.
        origin: (2,) int64, object pixel of the canvas' corner.
        batch_size: patterns at a time.
        background: counts per pixel that do not come from the beam.
    """

    scan: ResidentScan
    indices: Tensor
    canvas: Canvas
    origin: Tensor
    batch_size: int
    background: float


@attrs.frozen(kw_only=True, eq=False)
class Posterior:
    """Poisson likelihood of the counts with a Gaussian prior around an object.

    Attributes:
        measured: the patterns.
        prior: what is known of the object.
        refine_probe: whether the slope of the probe is wanted; it is 0 otherwise.
        held_out: whether some pixels of each pattern have no say, so that they can tell.
        stray: what is known of the positions; None where points do not move them.
    """

    measured: Measured
    prior: Prior
    refine_probe: bool
    held_out: bool
    stray: Stray | None = None

    def background(self, point: Point) -> float | Tensor:
        """Counts per pixel at a point that do not come from the beam."""
        given = self.measured.background
        return given if point.dark is None else given * point.dark.exp()

    def floor(self, point: Point) -> float | Tensor:
        """Counts per pixel under every rate: the background, and what keeps logarithms finite."""
        return self.background(point) + BACKGROUND_COUNTS

    @named_part("misfit")
    def look(self, point: Point) -> Look:
        """Look at misfit and slope at a point."""
        slopes, left_out, fitted = _Slopes(point), [], []
        size, floor = self.measured.scan.size, self.floor(point)
        for part in self.parts(self.measured.batch_size, point):
            probes, patches = part.probes(point.probe), extract(point.object[None], part.where, size)
            far = torch.fft.fft2(exit_waves(patches, probes), norm="ortho")
            expected = light_of(far) + floor
            gap = half_deviance(expected, part.counts)
            fitted.append((gap * part.fitted).sum(dtype=torch.float64))
            left_out.append((gap * part.left_out)[0].sum(dim=(-2, -1), dtype=torch.float64))
            excess = (1.0 - part.counts / expected) * part.fitted
            waves = torch.fft.ifft2(excess[..., None, :, :] * far, norm="ortho")
            slopes.of_the_object(part, probes, waves)
            slopes.of_the_background(excess)
            if self.refine_probe or self.stray is not None:
                back = torch.fft.fft2(patches.conj()[..., None, :, :] * waves) * part.ramps.conj()
                slopes.of_the_probe(back, refined=self.refine_probe)
        away = point.object - self.prior.object
        pull = self.prior.pull(away)
        distance = (pull * away.conj()).real.sum(dtype=torch.float64)
        if self.stray is not None and point.moves is not None:
            off = self.stray.px + point.moves
            distance = distance + (self.stray.pull(point.moves) * off).sum(dtype=torch.float64)
        return Look(
            misfit=float(torch.stack([*fitted, distance]).sum()),
            left_out=torch.cat(left_out),
            slope=slopes.all(pull, self.background(point), self.stray),
        )

    def light(self, probe: Tensor) -> Tensor:
        """Photons (pixels,) on each object pixel."""
        total = torch.zeros(1, self.measured.canvas.pixels, device=probe.device)
        for part in self.parts(self.measured.batch_size):
            add_patches(total, light_of(part.probes(probe)), part.where)
        return total[0]

    def parts(self, batch_size: int, point: Point | None = None) -> Iterator[Part]:
        """Go through the patterns in batches; each is gathered when it is asked for, or read ahead.

        Args:
            batch_size: patterns at a time.
            point: moves them; None leaves them where they are.
        """
        measured, pool = self.measured, self._pool()
        moves, first = None if point is None else point.moves, 0
        size, good = measured.scan.size, measured.scan.good_pixels
        for batch, group in measured.scan.gathered(measured.indices, batch_size):
            left_out = pool[(batch * _STRIDE) % _PERIOD].reshape(1, len(batch), size, size)
            fitted = 1.0 - left_out
            fractions = group.fractions_px if moves is None else group.fractions_px + moves[first : first + len(batch)]
            first += len(batch)
            yield Part(
                counts=group.counts,
                fitted=fitted if good is None else fitted * good,
                left_out=left_out if good is None else left_out * good,
                ramps=as_bright(subpixel_ramps(fractions, size)[..., None, :, :], group.relative_flux),
                where=measured.canvas.indices(group.starts, measured.origin, size),
            )

    def _pool(self) -> Tensor:
        """Pixels that are left out (offset, N * N), float32: a window that slides over one row of random ones."""
        pixels, device = self.measured.scan.size**2, self.measured.indices.device
        share = LEFT_OUT if self.held_out else 0.0
        row = torch.rand(pixels + _PERIOD, generator=torch.Generator().manual_seed(_SEED)) < share
        return row.to(torch.float32).to(device).unfold(0, pixels, 1)


class _Slopes:
    """Slopes that add up over the patterns."""

    def __init__(self, point: Point) -> None:
        self._point = point
        self._object, self._probe = torch.zeros_like(point.object)[None], torch.zeros_like(point.probe)
        self._moves: list[Tensor] = []
        self._dark = torch.zeros((), dtype=torch.float64, device=point.object.device)
        self._spectrum = torch.fft.fft2(point.probe)
        self._axes = frequencies(point.probe.shape[-1], point.object.device)

    def of_the_object(self, part: Part, probes: Tensor, waves: Tensor) -> None:
        add_patches(self._object, sum_of_modes(probes.conj() * waves), part.where)

    def of_the_background(self, excess: Tensor) -> None:
        if self._point.dark is not None:
            self._dark += excess.sum(dtype=torch.float64) / 2.0

    def of_the_probe(self, back: Tensor, *, refined: bool) -> None:
        """Take what all modes want of the transform of the probe at rest, (1, b, modes, N, N)."""
        if refined:
            self._probe += torch.fft.ifft2(back.sum(dim=(0, 1)))
        if self._point.moves is not None:
            turned = (self._spectrum.conj() * back)[0].sum(dim=1) / back[0, 0, 0].numel()
            asked = [(axis.conj() * turned).real.sum(dim=(-2, -1)) for axis in self._axes]
            self._moves.append(torch.stack(asked, dim=1))

    def all(self, pull: Tensor, background: float | Tensor, stray: Stray | None) -> Point:
        moves, dark = self._point.moves, self._point.dark
        if moves is not None and stray is not None:
            moves = stray.allowed(torch.cat(self._moves) + stray.pull(moves))
        if dark is not None:
            dark = (self._dark * background).float()
        return Point(self._object[0] + pull, self._probe, moves, dark)
