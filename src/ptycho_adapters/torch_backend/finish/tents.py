"""Slow waves as a few numbers: tent functions on a coarse grid over the canvas."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor

if TYPE_CHECKING:
    from ptycho_adapters.torch_backend.data.resident import Canvas

_SPACINGS_PER_PATCH = 4
_MOST_NODES = 1500  # whose dense matrix is factorised in a second


class Tents:
    """Tents over a canvas, each 1 at its node and 0 at the next ones.

    Attributes:
        spacing: pixels between nodes: a share of a patch, more on a large canvas.
        rows: (nodes along y, height) float32.
        columns: (nodes along x, width) float32.
        nodes: how many there are; row by row.
    """

    def __init__(self, canvas: Canvas, size: int, device: torch.device) -> None:
        self.spacing = _spacing(canvas.height, canvas.width, size)
        self.rows, self.columns = (_along(length, self.spacing, device) for length in (canvas.height, canvas.width))
        self.nodes = len(self.rows) * len(self.columns)

    def spread(self, heights: Tensor) -> Tensor:
        """Sum the tents (nodes,) with these heights: (pixels,)."""
        by_node = heights.reshape(len(self.rows), len(self.columns))
        total: Tensor = (self.rows.T.to(heights.dtype) @ by_node @ self.columns.to(heights.dtype)).reshape(-1)
        return total

    def collect(self, values: Tensor) -> Tensor:
        """Sum values (pixels,) under each tent: (nodes,)."""
        pixels = values.reshape(self.rows.shape[1], self.columns.shape[1])
        total: Tensor = (self.rows.to(values.dtype) @ pixels @ self.columns.T.to(values.dtype)).reshape(-1)
        return total

    def products(self, weight: Tensor) -> Tensor:
        """Weighted sums (nodes, nodes) float64 of the products of all pairs of tents; weight (pixels,) is real."""
        rows, columns = self.rows.double(), self.columns.double()
        pixels = weight.double().reshape(rows.shape[1], columns.shape[1])
        total = torch.zeros(len(rows), len(columns), len(rows), len(columns), dtype=torch.float64, device=weight.device)
        y, x = (torch.arange(len(each), device=weight.device) for each in (rows, columns))
        # A tent meets itself and its neighbours, no others.
        for down in range(min(2, len(rows))):
            for right in range(-1 if len(columns) > 1 else 0, min(2, len(columns))):
                here = x[max(0, -right) : len(x) - max(0, right)]
                above, left = y[: len(y) - down], here[None]
                met = (rows[above] * rows[above + down]) @ pixels @ (columns[here] * columns[here + right]).T
                total[above[:, None], left, above[:, None] + down, left + right] = met
                total[above[:, None] + down, left + right, above[:, None], left] = met
        return total.reshape(self.nodes, self.nodes)


@attrs.frozen(kw_only=True)
class Coarseness:
    """How many tents there are.

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
        return cls(nodes=nodes, tents_per_patch=met(size, spacing) ** 2)


def met(size: int, spacing: int) -> int:
    """Count the tents, at most, that a patch meets along an axis."""
    return math.ceil((size - 1) / spacing) + 2


def within(numbers: Tensor, tents: Tensor) -> Tensor:
    """Move the numbers of tents beyond the last one to it."""
    return numbers.clamp_max(len(tents) - 1)


def _spacing(height: int, width: int, size: int) -> int:
    spacing = max(1, size // _SPACINGS_PER_PATCH)
    while _nodes(height, spacing) * _nodes(width, spacing) > _MOST_NODES:
        spacing += 1
    return spacing


def _nodes(length: int, spacing: int) -> int:
    return math.ceil((length - 1) / spacing) + 1


def _along(length: int, spacing: int, device: torch.device) -> Tensor:
    places = torch.arange(length, device=device, dtype=torch.float32)
    nodes = torch.arange(_nodes(length, spacing), device=device, dtype=torch.float32) * spacing
    return (1.0 - (places - nodes[:, None]).abs() / spacing).clamp_min(0.0)
