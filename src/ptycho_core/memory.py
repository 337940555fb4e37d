"""How much memory a run needs, worked out before any of it is taken.

Every demand is the sum of what is alive together at its worst moment. What a network keeps for its gradient cannot be
read off its settings; callers measure it on a single pattern and pass it in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import attrs

from ptycho_core.errors import Problem, ProblemsError
from ptycho_core.frozen import FrozenMapping

if TYPE_CHECKING:
    from collections.abc import Iterable

_FLOAT32, _COMPLEX64, _INT64 = 4, 8, 8
# While patterns are brought to a device, masked and put into its order, several copies live at once.
_RESIDENT_COPIES = 3
# A gradient and the workspace of its convolution stand beside what is kept for the steps that are still to come.
_BACKWARD_SHARE = 0.35
# Weight, gradient, two moments of the optimiser, and the copy that a checkpoint makes.
_COPIES_OF_WEIGHTS = 5
# Without a gradient, what a layer has used is free for the next one.
_FORWARD_SHARE = 0.5
# Views up to this much are kept; what is freed in between is not all used again.
_KEPT_VIEWS, _LOOSENESS = 3 * 2**29, 1.5
# Beside what a descent remembers: where it is, was and starts, with the slopes there, a direction, and a dot product.
_VECTORS_OF_A_DESCENT = 26
# A matrix, a diagonal, their sum, its factor, and the factor of the one before.
_COPIES_OF_A_MATRIX = 5
# Waves, their transforms and slopes of a batch, by mode.
_FIELDS_OF_A_LOOK = 8
_FLOAT64 = 8
_UNITS = ("bytes", "kB", "MB", "GB", "TB")


class MemoryShortageError(ProblemsError):
    """A run that needs more memory than there is."""


@attrs.frozen(kw_only=True)
class ScanSize:
    """How large a scan is.

    Attributes:
        n_patterns: number of patterns.
        size_px: N, side of a pattern.
        modes: probe modes.
        count_bytes: of a count on the device.
    """

    n_patterns: int
    size_px: int
    modes: int = 1
    count_bytes: int = _FLOAT32

    @property
    def pixels(self) -> int:
        """Detector pixels of all patterns."""
        return self.n_patterns * self.size_px**2


@attrs.frozen(kw_only=True)
class MemoryDemand:
    """Bytes that are alive together, by what they are for."""

    parts: Mapping[str, int] = attrs.field(converter=FrozenMapping[int])

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.parts.values())

    def __str__(self) -> str:
        listed = ", ".join(f"{name} {in_units(size)}" for name, size in self.parts.items() if size)
        return f"{in_units(self.total)} ({listed})"


@attrs.frozen(kw_only=True)
class Remedy:
    """A change that lowers a demand.

    Attributes:
        action: what to do, with `{}` in the place of a number.
        largest: the number as it is now.
        demand: what is needed at a number.
        smallest: least number to propose.
    """

    action: str
    largest: int
    demand: Callable[[int], MemoryDemand]
    smallest: int = 1


def resident_demand(*scans: ScanSize) -> MemoryDemand:
    """Memory for bringing the patterns of scans to a device, one scan after the other, beside the scans as read."""
    counts = [scan.pixels * scan.count_bytes for scan in scans]
    return MemoryDemand(
        parts={
            "patterns as counts": sum(counts),
            "copies while they are prepared": (_RESIDENT_COPIES - 1) * max(counts, default=0),
        }
    )


def training_demand(
    *, kept_bytes: int, batch_size: int, n_weights: int, backward_share: float = _BACKWARD_SHARE
) -> MemoryDemand:
    """Memory for the steps of a training, beside the patterns.

    Args:
        kept_bytes: what generator, forward model and loss keep of one group for the gradient.
        batch_size: groups in a batch.
        n_weights: weights of the network.
        backward_share: what the gradient takes on its way, as a share of what is kept for it.
    """
    kept = kept_bytes * batch_size
    return MemoryDemand(
        parts={
            "a batch kept for its gradient": kept,
            "the gradient": round(backward_share * kept),
            "weights and optimiser": n_weights * _FLOAT32 * _COPIES_OF_WEIGHTS,
        }
    )


def reconstruction_demand(
    scan: ScanSize, *, canvas_px: int, network_px: int, network_bytes_per_px: float, channels: int = 0
) -> MemoryDemand:
    """Memory for a reconstruction, beside the patterns.

    Args:
        scan: size of the part of the scan that takes part.
        canvas_px: pixels of the object.
        network_px: pixels that the network sees at once.
        network_bytes_per_px: what one step of it would keep of a pixel for a gradient.
        channels: float32 images of the canvas that steps hand on, old and new ones.
    """
    return MemoryDemand(
        parts={
            "fields of the patterns": _kept_fields(scan),
            "canvas": canvas_px * (6 * _COMPLEX64 + (4 + channels) * _FLOAT32),
            "network": round(_FORWARD_SHARE * network_px * network_bytes_per_px),
        }
    )


@attrs.frozen(kw_only=True)
class FinishSize:
    """How large a finish is, beside its scan.

    Attributes:
        canvas_px: pixels of the object.
        remembered: changes that the descent keeps, each with a step and a change of the slope.
        nodes: of the grid of slow waves, each with an amplitude and a phase.
        tents_per_patch: of that grid, that one patch meets.
        batch_size: patterns that are looked at together.
        slow_batch_size: patterns whose slopes by the slow waves are known together.
    """

    canvas_px: int
    remembered: int
    nodes: int
    tents_per_patch: int
    batch_size: int
    slow_batch_size: int


def finish_demand(scan: ScanSize, finish: FinishSize) -> MemoryDemand:
    """Memory for a finish, beside the patterns; the fields that the pass keeps are still there.

    Args:
        scan: size of the part of the scan that takes part.
        finish: what is remembered and solved for.
    """
    frame = scan.size_px**2
    vector = (finish.canvas_px + scan.modes * frame) * _COMPLEX64
    slopes = 2 * _FLOAT32 * (2 * finish.tents_per_patch) * finish.slow_batch_size * frame
    look = finish.batch_size * frame * (_FIELDS_OF_A_LOOK * scan.modes * _COMPLEX64 + _FIELDS_OF_A_LOOK * _FLOAT32)
    return MemoryDemand(
        parts={
            "fields of the patterns": _kept_fields(scan),
            "changes that the descent remembers": 2 * finish.remembered * vector,
            "object and probe on their way": _VECTORS_OF_A_DESCENT * vector,
            "matrix of the slow waves": _COPIES_OF_A_MATRIX * (2 * finish.nodes) ** 2 * _FLOAT64,
            "slow waves of the prior": 2 * finish.nodes**2 * _FLOAT64,
            "a batch of patterns": max(slopes, look),
        }
    )


def _kept_fields(scan: ScanSize) -> int:
    views = scan.pixels * (2 * _COMPLEX64 * scan.modes + 3 * _FLOAT32 + _INT64)
    return round(_LOOSENESS * min(views, _KEPT_VIEWS))


def check_memory(what: str, demand: MemoryDemand, available: int, remedies: Iterable[Remedy] = ()) -> None:
    """Refuse what does not fit.

    Args:
        what: is to be done.
        demand: what it needs.
        available: bytes that are free.
        remedies: changes to propose; each is tried at ever smaller numbers and named with the first that fits.

    Raises:
        MemoryShortageError: it does not fit, with what is needed, what is there and what would fit.
    """
    if demand.total <= available:
        return
    proposals = [text for remedy in remedies if (text := _proposal(remedy, available))]
    fix = " or ".join(proposals) or "use a machine with more memory"
    problem = Problem(
        path="memory", expected=f"at most {in_units(available)}, which is free", found=str(demand), fix=fix
    )
    raise MemoryShortageError(f"{what} does not fit into memory", [problem])


def in_units(size: int) -> str:
    """Return a number of bytes in decimal units, with three digits."""
    value, unit = float(size), _UNITS[0]
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            break
        value /= 1000
    return f"{value:.3g} {unit}"


def _proposal(remedy: Remedy, available: int) -> str:
    """Give the largest power of two below the present number that fits, in words; empty if none does."""
    number = 1 << max(0, (remedy.largest - 1).bit_length() - 1)
    while number >= max(1, remedy.smallest):
        needed = remedy.demand(number).total
        if needed <= available:
            return f"{remedy.action.format(number)} (needs {in_units(needed)})"
        number //= 2
    return ""
