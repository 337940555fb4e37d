"""Slow waves of the object, which the counts say little about pixel by pixel and much about together.

Neighbouring patterns see only where they overlap how their phases lie to each other, so that waves much longer than
the beam come out last in any descent that goes by pixels. Here they are a small system of its own: tent functions on
a coarse grid times the object, in amplitude and phase, and the Fisher matrix of the counts about them. It corrects
the preconditioner by pixels, as a coarse grid does in a two-level additive Schwarz method (Toselli & Widlund 2005,
doi:10.1007/b137868).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor

from ptycho_adapters.torch_backend.physics.canvas import extract
from ptycho_adapters.torch_backend.physics.optics import detected_rate, sum_of_modes

if TYPE_CHECKING:
    from ptycho_adapters.torch_backend.finish.point import Point
    from ptycho_adapters.torch_backend.finish.posterior import Part, Posterior

_SPACINGS_PER_PATCH = 4
_MOST_NODES = 1500  # whose dense matrix is factorised in a second
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
        self._spacing = _spacing(canvas.height, canvas.width, posterior.measured.scan.size)
        self._rows, self._columns = (
            _tents(length, self._spacing, point.probe.device) for length in (canvas.height, canvas.width)
        )
        self._nodes = len(self._rows) * len(self._columns)
        self._fisher = self._of_the_counts(point) + torch.diag(self._of_the_prior().repeat(2))

    def solver(self, ridge: float) -> SlowSteps:
        """Factorise the matrix, with a share of its diagonal added."""
        diagonal = self._fisher.diagonal()
        raised = self._fisher + torch.diag(diagonal * ridge + diagonal.max() * _LEAST_RIDGE)
        return SlowSteps(self._object, self._rows, self._columns, torch.linalg.cholesky(raised))

    def _of_the_counts(self, point: Point) -> Tensor:
        total = torch.zeros(2 * self._nodes, 2 * self._nodes, dtype=torch.float64, device=point.probe.device)
        for part in self._posterior.parts(BATCH):
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
        rate = detected_rate(waves) + self._posterior.floor
        weight = (part.fitted[0] / rate).sqrt()
        corner = part.where[0, :, 0]
        along_y, first_y = self._tents_over(self._rows, corner // width, size)
        along_x, first_x = self._tents_over(self._columns, corner % width, size)
        slopes, nodes = [], []
        for y, row in enumerate(along_y):
            for x, column in enumerate(along_x):
                tent = row[:, None, :, None] * column[:, None, None, :]
                asked = sum_of_modes(far.conj() * torch.fft.fft2(waves * tent, norm="ortho")) * weight
                slopes += [2.0 * asked.real, -2.0 * asked.imag]
                node = _within(first_y + y, self._rows) * len(self._columns) + _within(first_x + x, self._columns)
                nodes += [node, node + self._nodes]
        return torch.stack(slopes, dim=1).flatten(2), torch.stack(nodes, dim=1)

    def _tents_over(self, tents: Tensor, starts: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Tents (k, b, size) that a patch meets along an axis, 0 beyond the last, and the first one's number (b,)."""
        met = _met(size, self._spacing)
        first = starts // self._spacing
        numbers = first + torch.arange(met, device=starts.device)[:, None]
        pixels = starts[:, None] + torch.arange(size, device=starts.device)
        values = tents[_within(numbers, tents)[..., None], pixels]
        return values * (numbers < len(tents))[..., None], first

    def _of_the_prior(self) -> Tensor:
        weight = self._posterior.prior.weight * (self._object * self._object.conj()).real
        canvas = self._posterior.measured.canvas
        stiff = self._rows.square() @ weight.reshape(canvas.height, canvas.width) @ self._columns.square().T
        return 2.0 * stiff.reshape(-1).double()


class SlowSteps:
    """Slow waves that a slope asks for.

    Args:
        object_: (pixels,) complex64 around which the waves are.
        rows: (nodes along y, height) tents.
        columns: (nodes along x, width) tents.
        factor: Cholesky factor of their matrix.
    """

    def __init__(self, object_: Tensor, rows: Tensor, columns: Tensor, factor: Tensor) -> None:
        self._object, self._factor = object_, factor
        self._rows, self._columns = rows.to(object_.dtype), columns.to(object_.dtype)

    def __call__(self, slope: Tensor) -> Tensor:
        """Return the slow part (pixels,) of a Newton step against a slope (pixels,), without its sign."""
        shape = (self._rows.shape[1], self._columns.shape[1])
        by_node = self._rows @ (self._object.conj() * slope).reshape(shape) @ self._columns.T
        asked = torch.cat([2.0 * by_node.real.reshape(-1), 2.0 * by_node.imag.reshape(-1)]).double()
        amplitude, phase = torch.cholesky_solve(asked[:, None], self._factor)[:, 0].float().chunk(2)
        waves = torch.complex(amplitude, phase).reshape(by_node.shape)
        return (self._rows.T @ waves @ self._columns).reshape(-1) * self._object


@attrs.frozen(kw_only=True)
class Coarseness:
    """How large the system of slow waves is.

    Attributes:
        nodes: tents on the canvas.
        tents_per_patch: of them, at most, over one patch.
    """

    nodes: int
    tents_per_patch: int

    @classmethod
    def on(cls, height: int, width: int, size: int) -> Coarseness:
        """Return that of a canvas of (height, width) pixels and patterns of a size."""
        spacing = _spacing(height, width, size)
        nodes = _nodes(height, spacing) * _nodes(width, spacing)
        return cls(nodes=nodes, tents_per_patch=_met(size, spacing) ** 2)


def _met(size: int, spacing: int) -> int:
    """Tents that a patch meets along an axis."""
    return math.ceil((size - 1) / spacing) + 2


def _spacing(height: int, width: int, size: int) -> int:
    """Pixels between nodes: a share of a patch, more on a large canvas."""
    spacing = max(1, size // _SPACINGS_PER_PATCH)
    while _nodes(height, spacing) * _nodes(width, spacing) > _MOST_NODES:
        spacing += 1
    return spacing


def _nodes(length: int, spacing: int) -> int:
    return math.ceil((length - 1) / spacing) + 1


def _tents(length: int, spacing: int, device: torch.device) -> Tensor:
    """Tents (nodes, length), 1 at their node and 0 at the next ones."""
    places = torch.arange(length, device=device, dtype=torch.float32)
    nodes = torch.arange(_nodes(length, spacing), device=device, dtype=torch.float32) * spacing
    return (1.0 - (places - nodes[:, None]).abs() / spacing).clamp_min(0.0)


def _within(numbers: Tensor, tents: Tensor) -> Tensor:
    return numbers.clamp_max(len(tents) - 1)
