"""Slow waves of the object, which the counts say little about pixel by pixel and much about together.

Neighbouring patterns see only where they overlap how their phases lie to each other, so that waves much longer than
the beam come out last in any descent that goes by pixels. Here they are a small system of its own: tent functions on
a coarse grid times the object, in amplitude and phase, and the Fisher matrix of the counts about them. It corrects
the preconditioner by pixels, as a coarse grid does in a two-level additive Schwarz method (Toselli & Widlund 2005,
doi:10.1007/b137868).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ptycho_adapters.torch_backend.finish.tents import Tents, met, within
from ptycho_adapters.torch_backend.physics.canvas import extract
from ptycho_adapters.torch_backend.physics.optics import detected_rate, sum_of_modes

if TYPE_CHECKING:
    from ptycho_adapters.torch_backend.finish.point import Point
    from ptycho_adapters.torch_backend.finish.posterior import Part, Posterior

BATCH = 8
"""Patterns whose slopes by the slow waves are known together."""

_LEAST_RIDGE = 1e-7  # of the largest diagonal element: unlit nodes have none of their own


class SlowWaves:
    """The Fisher matrix of the counts, and of the prior, about slow waves around a point.

    Args:
        posterior: counts and prior.
        point: object and probe.
    """

    def __init__(self, posterior: Posterior, point: Point) -> None:
        canvas = posterior.measured.canvas
        self._posterior, self._object = posterior, point.object
        self._tents = Tents(canvas, posterior.measured.scan.size, point.probe.device)
        self._nodes = self._tents.nodes
        self._fisher = self._of_the_counts(point) + torch.diag(self._of_the_prior())

    def solver(self, ridge: float) -> SlowSteps:
        """Factorise the matrix, with a share of its diagonal added."""
        diagonal = self._fisher.diagonal()
        raised = self._fisher + torch.diag(diagonal * ridge + diagonal.max() * _LEAST_RIDGE)
        return SlowSteps(self._object, self._tents, torch.linalg.cholesky(raised))

    def _of_the_counts(self, point: Point) -> Tensor:
        total = torch.zeros(2 * self._nodes, 2 * self._nodes, dtype=torch.float64, device=point.probe.device)
        for part in self._posterior.parts(BATCH, point):
            slopes, nodes = self._slopes(point, part)
            blocks = (slopes @ slopes.transpose(1, 2)).double()
            places = nodes[:, :, None] * (2 * self._nodes) + nodes[:, None, :]
            total.view(-1).index_add_(0, places.reshape(-1), blocks.reshape(-1))
        return total

    def _slopes(self, point: Point, part: Part) -> tuple[Tensor, Tensor]:
        """Slopes (b, k, pixels) of each rate over its root, by amplitude and phase of the tents over a patch."""
        size, width = self._posterior.measured.scan.size, self._posterior.measured.canvas.width
        patches = extract(point.object[None], part.where, size)[0]
        waves = patches[:, None] * part.probes(point.probe)[0]
        far = torch.fft.fft2(waves, norm="ortho")
        rate = detected_rate(waves) + self._posterior.floor(point)
        weight = (part.fitted[0] / rate).sqrt()
        corner = part.where[0, :, 0]
        rows, columns = self._tents.rows, self._tents.columns
        along_y, first_y = self._tents_over(rows, corner // width, size)
        along_x, first_x = self._tents_over(columns, corner % width, size)
        slopes, nodes = [], []
        for y, row in enumerate(along_y):
            for x, column in enumerate(along_x):
                tent = row[:, None, :, None] * column[:, None, None, :]
                asked = sum_of_modes(far.conj() * torch.fft.fft2(waves * tent, norm="ortho")) * weight
                slopes += [2.0 * asked.real, -2.0 * asked.imag]
                node = within(first_y + y, rows) * len(columns) + within(first_x + x, columns)
                nodes += [node, node + self._nodes]
        return torch.stack(slopes, dim=1).flatten(2), torch.stack(nodes, dim=1)

    def _tents_over(self, tents: Tensor, starts: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Tents (k, b, size) that a patch meets along an axis, 0 beyond the last, and the first one's number (b,)."""
        count = met(size, self._tents.spacing)
        first = starts // self._tents.spacing
        numbers = first + torch.arange(count, device=starts.device)[:, None]
        pixels = starts[:, None] + torch.arange(size, device=starts.device)
        values = tents[within(numbers, tents)[..., None], pixels]
        return values * (numbers < len(tents))[..., None], first

    def _of_the_prior(self) -> Tensor:
        """Stiffness (2 * nodes,) of the prior: of the error by pixel and the slow one in a row."""
        prior = self._posterior.prior
        canvas = self._posterior.measured.canvas
        brightness, (rows, columns) = (self._object * self._object.conj()).real, (self._tents.rows, self._tents.columns)
        weights = (each * brightness for each in (prior.weights.along, prior.weights.across))
        by_place = (each.reshape(canvas.height, canvas.width) for each in weights)
        fine = [2.0 * (rows.square() @ each @ columns.square().T).reshape(-1).double() for each in by_place]
        if prior.slow is None:
            return torch.cat(fine)
        return torch.cat([one * other / (one + other) for one, other in zip(fine, prior.slow.stiffness, strict=True)])


class SlowSteps:
    """Slow waves that a slope asks for.

    Args:
        object_: (pixels,) complex64 around which the waves are.
        tents: what they are made of.
        factor: Cholesky factor of their matrix.
    """

    def __init__(self, object_: Tensor, tents: Tents, factor: Tensor) -> None:
        self._object, self._tents, self._factor = object_, tents, factor

    def __call__(self, slope: Tensor) -> Tensor:
        """Return the slow part (pixels,) of a Newton step against a slope (pixels,), without its sign."""
        by_node = self._tents.collect(self._object.conj() * slope)
        asked = torch.cat([2.0 * by_node.real, 2.0 * by_node.imag]).double()
        amplitude, phase = torch.cholesky_solve(asked[:, None], self._factor)[:, 0].float().chunk(2)
        return self._tents.spread(torch.complex(amplitude, phase)) * self._object
