"""The probe that the counts want most: object and probe go down their misfit together, from what the network makes.

The network gives the object that belongs to the present probe. From there both are let go at once, so that neither is
held to the other's errors; the probe is kept, and the object is left to the network again, which knows better what
objects look like than the counts do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptycho_adapters.torch_backend.finish.descent import Descent, Place
from ptycho_adapters.torch_backend.finish.finish import Wish, posterior_around
from ptycho_adapters.torch_backend.finish.point import Point
from ptycho_adapters.torch_backend.physics.optics import light_of

if TYPE_CHECKING:
    from torch import Tensor

    from ptycho_adapters.torch_backend.inference.whole_scan import WholeScan


def likely_probe(run: WholeScan, object_: Tensor, steps: int) -> Tensor:
    """Go down the Poisson misfit of all counts in object and probe together, the network's object as a prior.

    Args:
        run: patterns, present probe and background.
        object_: (pixels,) complex64 on the pass' canvas, what the network makes under that probe.
        steps: down, at most.

    Returns:
        (modes, N, N) complex64, with the energy that the probe had.
    """
    patterns = len(run.indices)
    # Pixels that are to judge a finish have no say here either: a probe that knew them would make any step look worse.
    posterior = posterior_around(run.measured(), object_, run.probe, Wish(steps="auto", refine_probe=True))
    light, start = posterior.light(run.probe), Point(object_, run.probe)

    def curved(slope: Point) -> Point:
        # Each pattern lights the probe with an object of about 1.
        return Point(posterior.prior.divided(slope.object, light), slope.probe / patterns)

    descent = Descent(posterior.look, Place(start, posterior.look(start)), curved)
    for _ in range(steps):
        if not descent.step():
            break
    found = descent.place.point.probe
    return found * (light_of(run.probe).sum() / light_of(found).sum()).sqrt()
