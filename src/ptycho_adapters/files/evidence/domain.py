"""What an array says about itself where its file does not: the measurement domain and the axis of the patterns."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_core.any_array import AnyArray, describe
from ptycho_core.errors import Problem
from ptycho_core.measurement.frames import frame_slices, release
from ptycho_core.measurement.pixel_faults import hot_pixels
from ptycho_core.measurement.pixel_history import Readings, history_of
from ptycho_core.measurement.scan import MeasurementDomain

if TYPE_CHECKING:
    from ptycho_core.measurement.arrays import Patterns

LAYOUT_KEY = "pattern_layout"
PATTERNS_FIRST = "nyx"
PATTERNS_LAST = "yxn"

_SAMPLED_VALUES = 1 << 17
_FEWEST_VALUES = 4
_LARGEST_EXACT_SQUARE = 1e5
_FLUX_TOLERANCE = 0.2
_FLATNESS_RATIO = 0.5
_FAR_ABOVE = 10.0


@attrs.frozen(kw_only=True)
class Verdict:
    """A measurement domain and why it is believed."""

    domain: MeasurementDomain
    evidence: str


def find_domain(
    patterns: Patterns, probe: npt.NDArray[np.complex64] | None, *, has_bad_pixels: bool
) -> Verdict | Problem:
    """Tell counts from amplitudes by what the numbers can only be in one of the two.

    Whole numbers are counts, as are data that come with a detector mask; numbers whose squares are whole, while they
    are not, are amplitudes. Where neither speaks, the flux of the probe (photons per frame by convention) decides if it
    fits one of the two within 20 % and not the other.

    Args:
        patterns: (n, N, N) valid patterns.
        probe: (modes, N, N) probe of the same file, if any.
        has_bad_pixels: whether the file holds a detector mask.

    Returns:
        The verdict, or a problem when the evidence is missing or contradicts itself.
    """
    counts, amplitude = MeasurementDomain.COUNTS, MeasurementDomain.AMPLITUDE
    found = []
    if patterns.dtype.kind == "u":
        found.append(Verdict(domain=counts, evidence=f"integer dtype {patterns.dtype}"))
    elif (whole := _whole_numbers(patterns)) is not None:
        text = "whole numbers" if whole is counts else "squares are whole numbers"
        found.append(Verdict(domain=whole, evidence=text))
    elif _has_negative(patterns):
        found.append(Verdict(domain=counts, evidence="negative values, as counts have when a dark level is subtracted"))
    if has_bad_pixels:
        found.append(Verdict(domain=counts, evidence="bad_pixels beside the patterns"))
    if not found and probe is not None:
        found.extend(_flux_verdicts(patterns, probe))
    if len({verdict.domain for verdict in found}) == 1:
        return Verdict(domain=found[0].domain, evidence="; ".join(verdict.evidence for verdict in found))
    reasons = " but ".join(f"{verdict.evidence} ({verdict.domain})" for verdict in found)
    return Problem(
        path="measurement_domain",
        expected=f"evidence for {counts} or {amplitude}",
        found=reasons or "values that could be either",
        fix="say which with domain= or --domain",
    )


def _has_negative(patterns: Patterns) -> bool:
    return patterns.dtype.kind == "f" and any(bool((patterns[some] < 0).any()) for some in frame_slices(patterns))


def holds_whole_squares(patterns: Patterns) -> bool:
    """Tell whether the numbers can only be amplitudes: their squares are whole while they are not."""
    return patterns.dtype.kind == "f" and _whole_numbers(patterns) is MeasurementDomain.AMPLITUDE


def _whole_numbers(patterns: Patterns) -> MeasurementDomain | None:
    # An odd step meets every column of frames whose sides are powers of two.
    step = max(patterns.size // _SAMPLED_VALUES, 1) | 1
    frame = patterns.size // max(1, len(patterns))
    pieces = [
        patterns[some].reshape(-1)[-some.start * frame % step :: step].astype(np.float64)
        for some in frame_slices(patterns)
    ]
    values = np.concatenate(pieces)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.square(values)
    # Above this a float32 no longer tells whether a square is whole. A negative number is no measurement in any domain.
    informative = (values > 0.0) & (squares <= _LARGEST_EXACT_SQUARE)
    if np.count_nonzero(informative) < _FEWEST_VALUES:
        return None
    values, squares = values[informative], squares[informative]
    if _are_whole(values, within=1e-3):
        return MeasurementDomain.COUNTS
    return MeasurementDomain.AMPLITUDE if _are_whole(squares, within=0.0) else None


def _are_whole(values: npt.NDArray[np.float64], *, within: float) -> bool:
    """Tell whether all values are positive integers to float32 precision, and what is allowed beyond it."""
    nearest = np.rint(values)
    # Nothing is not a whole number that a small value is near to: its own size is all that tells it from darkness.
    return bool(((nearest >= 1.0) & (np.abs(values - nearest) <= within + 4e-7 * values)).all())


def _flux_verdicts(patterns: Patterns, probe: npt.NDArray[np.complex64]) -> list[Verdict]:
    flux = float(np.sum(np.square(np.abs(probe.astype(np.complex128)))))
    totals = {
        domain: _usual_photons(patterns, domain) for domain in (MeasurementDomain.COUNTS, MeasurementDomain.AMPLITUDE)
    }
    fitting = [domain for domain, total in totals.items() if abs(total - flux) <= _FLUX_TOLERANCE * flux]
    if len(fitting) != 1:
        return []
    return [Verdict(domain=fitting[0], evidence=f"probe flux {flux:.4g} = photons per frame {totals[fitting[0]]:.4g}")]


def _usual_photons(patterns: Patterns, domain: MeasurementDomain) -> float:
    """Give photons per frame: the mean over the frames, without hot pixels and frames far above the median."""
    readings = Readings(
        patterns=patterns,
        good=np.ones(patterns.shape[1:], dtype=bool),
        squared=domain is MeasurementDomain.AMPLITUDE,
        markers=(),
    )
    level = history_of(readings).level
    hot = hot_pixels(level, readings.good, n_frames=len(patterns), unit=1.0)
    totals = np.zeros(len(patterns))
    for some, raw in readings.pieces():
        totals[some] = readings.counts(raw, readings.not_finite(raw) | hot).sum(axis=(1, 2), dtype=np.float64)
    usual = totals[totals <= _FAR_ABOVE * np.median(totals)]
    return float(usual.mean()) if usual.size else 0.0


def patterns_first(
    array: AnyArray, *, key: str, stated: str | None, n_positions: int | None, probe_side: int | None
) -> tuple[AnyArray, str] | Problem:
    """Bring a stack to (n, N, N) where the file has (n, N, N) or (N, N, n).

    The patterns' axis is the one as long as the list of positions, with a square of the probe's size beside it. In a
    cube it is the axis along which the light is spread evenly. What is no stack of squares at all is passed on for
    validation to refuse.

    Args:
        array: what the file holds; a trailing axis of length 1 after three others is dropped.
        key: its name in the file.
        stated: the layout that the file states, "nyx" or "yxn", which settles it; None when it states none.
        n_positions: number of positions in the same file, None when unknown.
        probe_side: side of the probe in the same file in px, None when unknown.

    Returns:
        The stack and, where it was turned, why; or a problem when the file does not say.
    """
    if stated is not None:
        return _by_statement(array, stated)
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim != 3 or array.dtype.kind not in "iuf":
        return array, ""
    rows, columns, last = array.shape
    if rows == columns == last:
        return _turn_cube(array, key) if n_positions in (None, rows) else (array, "")
    fits_last = n_positions == last or rows != n_positions
    if rows != columns or not fits_last or probe_side not in (None, rows):
        return array, ""
    return np.moveaxis(array, 2, 0), f"{key} is {describe(array)}: patterns along the last axis"


def _by_statement(array: AnyArray, stated: str) -> tuple[AnyArray, str] | Problem:
    if stated == PATTERNS_FIRST:
        return array, ""
    if stated == PATTERNS_LAST:
        return (np.moveaxis(array, -1, 0) if array.ndim == 3 else array), ""
    return Problem(path=LAYOUT_KEY, expected=f"{PATTERNS_FIRST} or {PATTERNS_LAST}", found=repr(stated))


def _turn_cube(array: AnyArray, key: str) -> tuple[AnyArray, str] | Problem:
    """Find the patterns' axis of a cube by the evenness of the totals along it."""
    weights = cast("npt.NDArray[np.float64]", array)
    spreads = []
    for axis in range(3):
        totals = weights.sum(axis=tuple(other for other in range(3) if other != axis), dtype=np.float64)
        release(array)
        mean = float(totals.mean())
        spreads.append(float(totals.std()) / mean if mean > 0.0 else 0.0)
    first, middle, last = spreads
    if first < _FLATNESS_RATIO * min(middle, last):
        return array, f"{key} is a cube with its light spread evenly along the first axis"
    if last < _FLATNESS_RATIO * min(first, middle):
        return np.moveaxis(array, 2, 0), f"{key} is a cube with its light spread evenly along the last axis"
    if key == "diff3d":
        return array, "diff3d is a cube, and by its contract has patterns along the first axis"
    return Problem(
        path=key,
        expected="patterns along a recognisable axis",
        found=f"{describe(array)} with {array.shape[0]} positions",
        fix=f"add the text {LAYOUT_KEY} = nyx for (n, N, N) or yxn for (N, N, n)",
    )
