"""Faults of a detector in words: what, how many, where, and what is to be done about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_core.measurement.findings import Finding, Suspicion
from ptycho_core.measurement.pixel_history import Mask

if TYPE_CHECKING:
    from ptycho_core.measurement.pixel_history import History
    from ptycho_core.measurement.spikes import Course, Replaced

_LISTED = 5


class Remedy(StrEnum):
    """What is to be done about a fault."""

    MASK = "masked"
    REPLACE = "replaced by the median of those around"
    LEAVE_OUT = "left out, with the positions"
    CLIP = "taken for 0"


@attrs.frozen(kw_only=True)
class Fault:
    """What was found.

    Attributes:
        kind: for machines.
        text: what and where, for people.
        remedy: what is to be done about it.
    """

    kind: Suspicion
    text: str
    remedy: Remedy

    def finding(self, *, mended: bool) -> Finding:
        """Say it, with what was done."""
        return Finding(kind=self.kind, text=f"{self.text}: {self.remedy if mended else 'left as found'}")


@attrs.frozen(kw_only=True, eq=False)
class BadPixels:
    """Pixels that are bad in all frames, by kind; (N, N) each, and no pixel is of two kinds.

    Attributes:
        kinds: what they are, with what they do, in words.
        rows: that are dark from end to end.
        columns: that are dark from end to end.
    """

    kinds: Sequence[tuple[Suspicion, str, Mask]]
    rows: npt.NDArray[np.intp]
    columns: npt.NDArray[np.intp]


def pixel_faults(pixels: BadPixels) -> Iterator[Fault]:
    """Yield the pixels that are bad in all frames."""
    for kind, words, where in pixels.kinds:
        if where.any():
            yield Fault(kind=kind, text=f"{pixel_list(where)} {words}", remedy=Remedy.MASK)
    for name, lines in (("row", pixels.rows), ("column", pixels.columns)):
        if lines.size:
            text = f"{name}{'s' * (lines.size > 1)} {_ranges(lines)} dark from end to end between lit ones, a gap"
            yield Fault(kind=Suspicion.DEAD_PIXELS, text=text, remedy=Remedy.MASK)


def reading_faults(replaced: Sequence[Replaced]) -> Iterator[Fault]:
    """Yield the single readings that are none."""
    words = {
        Suspicion.SPIKES: "far above all around them and all that their pixels hold otherwise: spikes",
        Suspicion.OVERFLOW: "at the largest number of the type: an overflow, not counts",
        Suspicion.NOT_FINITE: "NaN or infinite",
    }
    for kind, what in words.items():
        some = [each for each in replaced if each.kind is kind]
        if not some:
            continue
        listed = ", ".join(f"frame {each.frame} ({each.y}, {each.x})" for each in some[:_LISTED])
        more = ", …" if len(some) > _LISTED else ""
        most = f", up to {max(each.found for each in some):.4g} counts" if kind is Suspicion.SPIKES else ""
        text = f"{_number(len(some), 'single reading')} {what}{most}; {listed}{more}"
        yield Fault(kind=kind, text=text, remedy=Remedy.REPLACE)


def negative_faults(history: History, good: Mask) -> Iterator[Fault]:
    """Yield the negative values, which are the noise of a detector whose dark level was subtracted."""
    number = int(history.n_negative[good].sum())
    if number:
        mean = float(history.negative_sum[good].sum()) / number
        text = f"{_number(number, 'negative value')}, {mean:.3g} below 0 on average, which are no photons but noise"
        yield Fault(kind=Suspicion.NEGATIVE, text=text, remedy=Remedy.CLIP)


def frame_faults(lost: Mask, dark: Mask, course: Course) -> Iterator[Fault]:
    """Yield the frames that are no measurement."""
    usual = float(np.median(course.photons[~(lost | dark | course.glitched)])) if not lost.all() else 0.0
    rules = (
        (Suspicion.NOT_FINITE, lost, "not finite, or an overflow, at many pixels"),
        (Suspicion.DARK_FRAMES, dark, f"without light, where the median is {usual:.3g} counts"),
        (Suspicion.GLITCHED_FRAMES, course.glitched, f"full of light, far above the median of {usual:.3g} counts"),
    )
    for kind, where, words in rules:
        numbers = np.flatnonzero(where)
        if numbers.size:
            text = f"frame{'s' * (numbers.size > 1)} {_ranges(numbers)} {words}"
            yield Fault(kind=kind, text=text, remedy=Remedy.LEAVE_OUT)


def pixel_list(chosen: Mask) -> str:
    """Say how many pixels there are, and where the first ones lie."""
    where = np.argwhere(chosen)
    listed = ", ".join(f"({y}, {x})" for y, x in where[:_LISTED]) + (", …" if len(where) > _LISTED else "")
    return f"{_number(len(where), 'pixel')} at {listed}"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _ranges(numbers: npt.NDArray[np.intp]) -> str:
    """Say which numbers there are, runs of them by their ends."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    listed = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs[:_LISTED]]
    return ", ".join(listed) + (", …" if len(runs) > _LISTED else "")
