"""One pass in several processes: the first says what it is over, and each goes through its part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from torch import Tensor

from ptycho_adapters.torch_backend.data.resident import Canvas
from ptycho_adapters.torch_backend.inference.whole_scan import PassFactory, WholeScan, where_lit
from ptycho_adapters.torch_backend.sharing import heard, told_by_the_first

if TYPE_CHECKING:
    from ptycho_adapters.crew import Crew


@attrs.frozen(kw_only=True, eq=False)
class _Told:
    """What a pass is over that was found out, not set: all else every process knows.

    Attributes:
        probe: (modes, N, N) complex64.
        canvas: holds every patch.
        origin: (2,) int64.
        starts: (n, 2) int64, first pixels of all patches.
        fractions_px: (n, 2) float32, what is left of the positions beyond them.
        relative_flux: (n,) float32, of each frame over their mean; None where all are alike.
        background: counts per pixel.
    """

    probe: Tensor
    canvas: Canvas
    origin: Tensor
    starts: Tensor
    fractions_px: Tensor
    relative_flux: Tensor | None
    background: float


def shared_out(run: WholeScan, crew: Crew) -> WholeScan:
    """Tell the others what a pass is over, as the first process; what each does of it is its part from here on.

    Args:
        run: as it was prepared.
        crew: all of them.
    """
    if crew.count > 1:
        told_by_the_first(
            _Told(
                probe=run.probe.cpu(),
                canvas=run.canvas,
                origin=run.origin.cpu(),
                starts=run.scan.starts.cpu(),
                fractions_px=run.scan.fractions_px.cpu(),
                relative_flux=None if run.scan.relative_flux is None else run.scan.relative_flux.cpu(),
                background=run.background,
            ),
            crew,
        )
    return attrs.evolve(run, crew=crew)


def take_part(make_pass: PassFactory, crew: Crew, *, judged: bool) -> None:
    """Go through the own part of a pass, as one of the other processes.

    Args:
        make_pass: with the patterns as they were read.
        crew: all of them.
        judged: whether the object is judged by all as well.
    """
    told = heard(_Told, crew)
    device = make_pass.scan.device
    own = make_pass.scan.placed(told.starts, told.fractions_px).lit(told.relative_flux)
    run = attrs.evolve(
        make_pass(told.probe.numpy(), make_pass.chosen, told.background),
        scan=own,
        canvas=told.canvas,
        origin=told.origin.to(device),
        crew=crew,
    )
    object_, light = run.stitch()
    if judged:
        run.judge(where_lit(object_, light)[0])
