"""What a generator's steps left on a canvas that goes on: sums, objects and memories, so that frames can be added.

A step sums what each pattern asks for, and combines the sum into the next object. Both are local: patterns that come
later change the sums under their own patches, and the objects as far around as a network sees. So a batch of patterns
is passed through all steps on the piece of canvas that it touches, on top of the sums that are there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from ptycho_adapters.torch_backend.data.resident import Canvas
from ptycho_adapters.torch_backend.execution import network_precision
from ptycho_adapters.torch_backend.generators.base import Draft
from ptycho_adapters.torch_backend.physics.canvas import add_patches
from ptycho_adapters.torch_backend.physics.optics import light_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from ptycho_adapters.torch_backend.generators.base import Step, View
    from ptycho_adapters.torch_backend.inference.whole_scan import WholeScan

    Starts = npt.NDArray[np.int64]

_MARGIN_PX, _RIM_PX = 32, 16  # around patches: what is looked at, and how much of that is left as it was
_TILE_PX = 32
_GRAIN_PX = 64  # edges of the canvas lie on multiples of it, so that a network's blocks stay where they are
_AHEAD_PX = 256  # room beyond a frame for which there was none


@attrs.frozen(kw_only=True)
class Box:
    """A piece of the object: (y, x) of its first pixel and of the one after its last."""

    low: tuple[int, int]
    high: tuple[int, int]

    @property
    def canvas(self) -> Canvas:
        """Its size."""
        return Canvas(height=self.high[0] - self.low[0], width=self.high[1] - self.low[1])

    def within(self, other: Box) -> tuple[slice, slice]:
        """Where it lies in another one that holds it."""
        rows, columns = (
            slice(low - start, high - start) for low, high, start in zip(self.low, self.high, other.low, strict=True)
        )
        return rows, columns


@attrs.frozen(kw_only=True, eq=False)
class Piece:
    """Patterns that are passed together, and the canvas that they touch.

    Attributes:
        box: the piece of canvas.
        members: (m,) their places in the batch.
    """

    box: Box
    members: npt.NDArray[np.int64]


class CanvasSums:
    """Sums, objects and memories of a generator's steps, on a canvas that grows where frames ask for it.

    Args:
        run: a pass with the network, the probe and the background.
        around: (n, 2) first pixels of patches that room is made for at once.
    """

    def __init__(self, run: WholeScan, around: Starts) -> None:
        self._run = run
        # Steps that share their weights with an earlier one are left to a pass over the whole scan.
        self.steps: Sequence[Step] = tuple(dict.fromkeys(run.generator.steps()))
        self.box = _holding(around, run.scan.size, 0)
        kind, (height, width) = run.probe.device, (self.box.canvas.height, self.box.canvas.width)
        n, memory = len(self.steps), run.generator.memory_channels
        self._sums = torch.zeros(n, height, width, dtype=torch.complex64, device=kind)
        self._objects = torch.ones(n, height, width, dtype=torch.complex64, device=kind)
        self._memories = torch.zeros(n, memory, height, width, device=kind)
        self._weight, self._light = (torch.zeros(height, width, device=kind) for _ in range(2))

    def object_in(self, box: Box) -> Tensor:
        """The object (h, w) in a box that lies within its own."""
        return self._objects[(-1, *box.within(self.box))]

    def light_in(self, box: Box) -> Tensor:
        """The summed probe intensity (h, w) in a box that lies within its own."""
        return self._light[box.within(self.box)]

    def make_room(self, starts: Starts, size: int) -> None:
        """Let the canvas hold patches that start at some pixels (n, 2), and more beyond them where it has to grow."""
        needed = _holding(starts, size, 0)
        low = tuple(
            mine if mine <= asked else asked - _AHEAD_PX for mine, asked in zip(self.box.low, needed.low, strict=True)
        )
        high = tuple(
            mine if mine >= asked else asked + _AHEAD_PX for mine, asked in zip(self.box.high, needed.high, strict=True)
        )
        if (low, high) == (self.box.low, self.box.high):
            return
        grown = Box(low=(low[0], low[1]), high=(high[0], high[1]))
        place = self.box.within(grown)

        def larger(old: Tensor, fill: float) -> Tensor:
            new = old.new_full((*old.shape[:-2], grown.canvas.height, grown.canvas.width), fill)
            new[(..., *place)] = old
            return new

        self._objects = larger(self._objects, 1.0)
        self._sums, self._memories = larger(self._sums, 0.0), larger(self._memories, 0.0)
        self._weight, self._light = larger(self._weight, 0.0), larger(self._light, 0.0)
        self.box = grown

    def pieces(self, starts: Starts, size: int) -> Iterator[Piece]:
        """Split patterns into those that touch the same piece of canvas.

        Args:
            starts: (n, 2) first pixels of their patches, which the canvas has to hold.
            size: edge of a patch in px.
        """
        if self._run.generator.together > 1:
            yield Piece(box=self._around(starts, size), members=np.arange(len(starts)))
            return
        touched = np.zeros([-(-edge // _TILE_PX) for edge in (self.box.canvas.height, self.box.canvas.width)], bool)
        first = (starts - self.box.low) // _TILE_PX
        last = (starts - self.box.low + size - 1) // _TILE_PX
        for (top, left), (bottom, right) in zip(first, last, strict=True):
            touched[top : bottom + 1, left : right + 1] = True
        names, count = ndimage.label(touched, structure=np.ones((3, 3)))
        belongs = names[first[:, 0], first[:, 1]]
        for name in range(1, count + 1):
            members = np.flatnonzero(belongs == name)
            yield Piece(box=self._around(starts[members], size), members=members)

    def add(self, piece: Piece, views: Sequence[Sequence[View]]) -> None:
        """Pass patterns through all steps.

        Args:
            piece: the canvas that they touch.
            views: of those that are passed for the last time, of those that will be passed again, and of those among
                both that are new.
        """
        for_good, again, new = views
        rows = piece.box.within(self.box)
        for view in new:
            _put(self._weight[rows], view.weight, view.where)
            _put(self._light[rows], light_of(view.probes), view.where)
        for number, step in enumerate(self.steps):
            draft = self._draft(number, rows)
            total = self._sums[(number, *rows)].clone(memory_format=torch.contiguous_format)
            for view in for_good:
                self._contribute(total, step, view, draft)
            self._sums[(number, *rows)] = total
            for view in again:
                self._contribute(total, step, view, draft)
            with network_precision(self._run.precision, self._run.probe.device):
                made = step.combine(total[None], draft)
            own = self._without_rim(piece.box)
            inside = own.within(piece.box)
            self._objects[(number, *own.within(self.box))] = made.object[(0, *inside)]
            self._memories[(number, slice(None), *own.within(self.box))] = made.memory[(0, slice(None), *inside)]

    def _draft(self, number: int, rows: tuple[slice, slice]) -> Draft:
        """What the step before left on a piece of canvas; nothing before the first one."""
        weight = self._weight[rows][None]
        if number == 0:
            memory = self._memories[(0, slice(None), *rows)][None]
            return Draft(
                object=torch.ones_like(weight, dtype=torch.complex64), weight=weight, memory=torch.zeros_like(memory)
            )
        before = number - 1
        return Draft(
            object=self._objects[(before, *rows)][None].contiguous(),
            weight=weight,
            memory=self._memories[(before, slice(None), *rows)][None],
        )

    def _contribute(self, total: Tensor, step: Step, view: View, draft: Draft) -> None:
        patches = draft.patches(view.where, self._run.scan.size)
        with network_precision(self._run.precision, self._run.probe.device):
            added = step.contribution(view, patches)
        add_patches(total.view(1, -1), added, view.where)

    def _around(self, starts: Starts, size: int) -> Box:
        """Patches with a margin, on blocks of the network, within the canvas."""
        asked = _holding(starts, size, _MARGIN_PX, grain=8)
        low = np.maximum(asked.low, self.box.low).tolist()
        high = np.minimum(asked.high, self.box.high).tolist()
        return Box(low=(low[0], low[1]), high=(high[0], high[1]))

    def _without_rim(self, box: Box) -> Box:
        """What of a piece of canvas is far enough from its edges, which lie elsewhere on the whole canvas."""
        low = [here if here == end else here + _RIM_PX for here, end in zip(box.low, self.box.low, strict=True)]
        high = [here if here == end else here - _RIM_PX for here, end in zip(box.high, self.box.high, strict=True)]
        return Box(low=(low[0], low[1]), high=(high[0], high[1]))


def views_of(run: WholeScan, piece: Piece, members: npt.NDArray[np.int64]) -> list[View]:
    """Views of some patterns of a batch on their piece of canvas.

    Args:
        run: a pass over the batch.
        piece: the canvas.
        members: (m,) places in the batch, of the piece's.
    """
    return list(on_piece(run, piece, members).made_views()) if len(members) else []


def on_piece(run: WholeScan, piece: Piece, members: npt.NDArray[np.int64]) -> WholeScan:
    """Narrow a pass over a batch to some of its patterns, (m,) places in the batch, and their piece of canvas."""
    device = run.indices.device
    return attrs.evolve(
        run,
        canvas=piece.box.canvas,
        origin=torch.tensor(piece.box.low, device=device),
        indices=torch.tensor(members, device=device),
    )


def _put(canvas: Tensor, patches: Tensor, where: Tensor) -> None:
    """Add patches to a part of a canvas (h, w)."""
    canvas += add_patches(torch.zeros_like(canvas).view(1, -1), patches, where).view_as(canvas)


def _holding(starts: Starts, size: int, margin: int, grain: int = _GRAIN_PX) -> Box:
    """The smallest box on multiples of a grain that holds patches with a margin."""
    low = (starts.min(axis=0) - margin) // grain * grain
    high = -(-(starts.max(axis=0) + size + margin) // grain) * grain
    return Box(low=(int(low[0]), int(low[1])), high=(int(high[0]), int(high[1])))
