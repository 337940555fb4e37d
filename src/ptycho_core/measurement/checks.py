"""What makes measured arrays a scan: every rule, reported together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias, cast

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_core.any_array import AnyArray, describe
from ptycho_core.errors import Problem
from ptycho_core.measurement.frames import frame_slices
from ptycho_core.measurement.stored import stored

if TYPE_CHECKING:
    from collections.abc import Iterator

_Real: TypeAlias = npt.NDArray[np.float64]
_Mask: TypeAlias = npt.NDArray[np.bool_]
_Complex: TypeAlias = npt.NDArray[np.complex64]

PATTERN_DTYPES = tuple(np.dtype(name) for name in ("uint16", "uint32", "float32", "float64"))
LARGEST_COUNT = 1e18
SMALLEST_SPREAD_PX = 1e-3
# Far from what a frame can hold, and within what the squares of complex64 numbers can.
_FEWEST_PHOTONS, _MOST_PHOTONS = 1e-30, 1e30
_LISTED_FRAMES = 8


@attrs.frozen(kw_only=True, eq=False)
class ScanParts:
    """The arrays of a scan before they are known to be one; None stands for a part that is absent or unreadable."""

    patterns: AnyArray | None
    positions_px: AnyArray | None
    probe: AnyArray | None
    object: AnyArray | None = None
    bad_pixels: AnyArray | None = None
    scan_index: AnyArray | None = None
    commanded_positions_px: AnyArray | None = None


def scan_problems(parts: ScanParts, *, largest: float = LARGEST_COUNT) -> tuple[Problem, ...]:
    """List everything that keeps the parts from being a scan, in the order of the fields.

    Args:
        parts: the arrays; a part that is None is not looked at.
        largest: largest pixel value that is taken for a measurement.

    Returns:
        The problems; empty for a scan.
    """
    return (
        *_pattern_problems(parts, largest),
        *_position_problems(parts),
        *_probe_problems(parts),
        *_object_problems(parts),
        *_bad_pixel_problems(parts),
        *_index_problems(parts),
    )


def pattern_shape(patterns: AnyArray | None) -> tuple[int, int] | None:
    """Give (number of patterns, side in px) of a stack of square patterns, None for anything else."""
    if patterns is None or patterns.ndim != 3 or patterns.shape[1] != patterns.shape[2]:
        return None
    return patterns.shape[0], patterns.shape[1]


def _pattern_problems(parts: ScanParts, largest: float) -> Iterator[Problem]:
    patterns = parts.patterns
    if patterns is None:
        return
    if pattern_shape(patterns) is None or patterns.size == 0:
        expected = "a stack of square diffraction patterns (n, N, N), n >= 1"
        yield Problem(path="patterns", expected=expected, found=describe(patterns), fix=_fix_of_shape(patterns.shape))
    if patterns.dtype not in PATTERN_DTYPES:
        expected = "real numbers (uint16, uint32, float32 or float64)"
        yield Problem(
            path="patterns", expected=expected, found=str(patterns.dtype), fix=_fix_of_kind(patterns.dtype.kind)
        )
    elif patterns.size:
        yield from _value_problems(parts, cast("_Real", patterns), largest)


def _fix_of_kind(kind: str) -> str:
    """Say what to do about patterns that are no real numbers, by NumPy's letter for what they are."""
    text = "text is no measurement: save the patterns as numbers"
    fixes = {
        "b": "ptycho prepare IN OUT.npz takes true and false for counts",
        "c": "of waves at the detector, intensities are the squares of their magnitudes: abs(patterns) ** 2",
    }
    return fixes.get(kind, text if kind in "US" else "")


def _fix_of_shape(shape: tuple[int, ...]) -> str:
    """Say what to do about patterns that are no stack of squares."""
    if len(shape) == 4 and min(shape) > 0:
        return "a raster is made a stack by ptycho prepare IN OUT.npz"
    if len(shape) != 3 or min(shape) == 0:
        return ""
    return f"crop or pad them: ptycho prepare IN OUT.npz --size {min(shape[1:])}"


@attrs.frozen(kw_only=True, eq=False)
class _Look:
    """What there is to see in a stack: its smallest and largest value, finite ones, and which frames hold light."""

    low: float
    high: float
    finite: int
    lit: _Mask


def _value_problems(parts: ScanParts, patterns: _Real, largest: float) -> Iterator[Problem]:
    good = None if parts.bad_pixels is None or not _mask_fits(parts) else ~cast("_Mask", parts.bad_pixels)
    left = stored(patterns)
    if left is None:
        found = _look(np.atleast_1d(patterns), good)  # a lone number is no stack, and has a value all the same
    else:
        key = ("look", None if good is None else good.tobytes())
        found = left.remembered(key, lambda: _look(patterns, good))
    if found.finite < patterns.size:
        bad = patterns.size - found.finite
        yield Problem(path="patterns", expected="finite values", found=f"{bad} NaN or infinite values")
        return
    if found.low < 0.0:
        yield Problem(path="patterns", expected="values >= 0", found=f"a smallest value of {found.low:g}")
    if found.high > largest:
        yield Problem(path="patterns", expected=f"values <= {largest:g}", found=f"a largest value of {found.high:g}")
    if pattern_shape(patterns) is not None:
        yield from _dark_problems(found.lit)


def _look(stack: _Real, good: _Mask | None) -> _Look:
    """Go through a stack once; light is what good pixels hold."""
    lowest, highest, finite = [], [], 0
    lit = np.zeros(len(stack), dtype=bool)
    for some in frame_slices(stack):
        frames = stack[some]
        lowest.append(np.min(frames))
        highest.append(np.max(frames))
        finite += int(np.count_nonzero(np.isfinite(frames)))
        pixels = frames > 0.0
        lit[some] = (pixels if good is None else pixels & good).any(axis=tuple(range(1, stack.ndim)))
    return _Look(low=float(np.min(lowest)), high=float(np.max(highest)), finite=finite, lit=lit)


def _dark_problems(lit: _Mask) -> Iterator[Problem]:
    dark = np.flatnonzero(~lit)
    if dark.size:
        listed = ", ".join(map(str, dark[:_LISTED_FRAMES])) + (", …" if dark.size > _LISTED_FRAMES else "")
        noun = "frame" if dark.size == 1 else "frames"
        yield Problem(
            path="patterns",
            expected="photons in every frame",
            found=f"{dark.size} {noun} without any: {listed}",
            fix="drop these frames and their positions",
        )


def _position_problems(parts: ScanParts) -> Iterator[Problem]:
    positions = parts.positions_px
    if positions is not None:
        yield from _coordinate_problems(parts, positions, "positions_px")
        spread = _spread_px(positions)
        if spread is not None and spread < SMALLEST_SPREAD_PX:
            yield Problem(
                path="positions_px",
                expected="positions in object pixels that differ from each other",
                found="all positions equal" if spread == 0.0 else f"all positions within {spread:.3g} px",
                fix="" if spread == 0.0 else "divide positions in metres by the object's pixel size",
            )
    if parts.commanded_positions_px is not None:
        yield from _coordinate_problems(parts, parts.commanded_positions_px, "commanded_positions_px")


def _coordinate_problems(parts: ScanParts, positions: AnyArray, path: str) -> Iterator[Problem]:
    if positions.ndim != 2 or positions.shape[1] != 2 or positions.dtype.kind != "f":
        yield Problem(path=path, expected="(n, 2) real numbers, (y, x) in object pixels", found=describe(positions))
        return
    if not np.isfinite(cast("_Real", positions)).all():
        yield Problem(path=path, expected="finite coordinates", found="NaN or infinite ones")
    if parts.patterns is not None and parts.patterns.ndim == 3 and len(positions) != len(parts.patterns):
        n_patterns = len(parts.patterns)
        expected = f"{n_patterns} positions, one per pattern"
        yield Problem(path=path, expected=expected, found=f"{len(positions)} positions for {n_patterns} patterns")


def _spread_px(positions: AnyArray) -> float | None:
    """Give the larger extent of the scanned box, None where there is no such thing."""
    if positions.ndim != 2 or positions.dtype.kind != "f" or len(positions) < 2 or not positions.size:
        return None
    # Coordinates that are infinite have a problem of their own.
    with np.errstate(over="ignore", invalid="ignore"):
        spread = float(np.max(np.ptp(cast("_Real", positions), axis=0)))
    return spread if np.isfinite(spread) else None


def _probe_problems(parts: ScanParts) -> Iterator[Problem]:
    probe = parts.probe
    if probe is None:
        return
    if probe.ndim != 3 or probe.shape[1] != probe.shape[2] or probe.size == 0:
        yield Problem(path="probe", expected="(modes, N, N) or (N, N) complex", found=describe(probe))
        return
    known = pattern_shape(parts.patterns)
    if known is not None and known[1] != probe.shape[1]:
        expected = f"the size of the patterns, {known[1]}×{known[1]}"
        yield Problem(path="probe", expected=expected, found=f"{probe.shape[1]}×{probe.shape[2]}")
    yield from _complex_problems(probe, "probe")
    if probe.dtype.kind == "c":
        yield from _flux_problems(cast("_Complex", probe))


def _flux_problems(probe: _Complex) -> Iterator[Problem]:
    if not probe.any():
        yield Problem(path="probe", expected="an illumination with photons in it", found="zeros only")
        return
    photons = float(np.sum(np.square(np.abs(probe.astype(np.complex128)))))
    if math.isfinite(photons) and not _FEWEST_PHOTONS <= photons <= _MOST_PHOTONS:
        expected = f"Σ|P|² from {_FEWEST_PHOTONS:g} to {_MOST_PHOTONS:g} photons per frame"
        fix = "scale the probe to the photons of a frame"
        yield Problem(path="probe", expected=expected, found=f"{photons:.3g}", fix=fix)


def _complex_problems(array: AnyArray, path: str) -> Iterator[Problem]:
    if array.dtype.kind != "c":
        yield Problem(path=path, expected="complex numbers", found=str(array.dtype))
    elif not np.isfinite(cast("_Complex", array)).all():
        yield Problem(path=path, expected="finite values", found="NaN or infinite ones (in complex64)")


def _object_problems(parts: ScanParts) -> Iterator[Problem]:
    if parts.object is None:
        return
    if parts.object.ndim != 2 or parts.object.size == 0:
        yield Problem(path="object", expected="one layer (H, W) complex", found=describe(parts.object))
    yield from _complex_problems(parts.object, "object")


def _mask_fits(parts: ScanParts) -> bool:
    known = pattern_shape(parts.patterns)
    mask = parts.bad_pixels
    return known is not None and mask is not None and mask.dtype == np.bool_ and mask.shape == (known[1], known[1])


def _bad_pixel_problems(parts: ScanParts) -> Iterator[Problem]:
    mask = parts.bad_pixels
    if mask is None:
        return
    if mask.dtype != np.bool_ or mask.ndim != 2:
        yield Problem(path="bad_pixels", expected="(N, N) bool, True where bad", found=describe(mask))
        return
    known = pattern_shape(parts.patterns)
    if known is not None and mask.shape != (known[1], known[1]):
        expected = f"the size of the patterns, ({known[1]}, {known[1]})"
        yield Problem(path="bad_pixels", expected=expected, found=str(mask.shape))
    if mask.all():
        yield Problem(path="bad_pixels", expected="at least one good pixel", found="bad ones only")


def _index_problems(parts: ScanParts) -> Iterator[Problem]:
    index = parts.scan_index
    if index is None:
        return
    if index.ndim != 1 or index.dtype != np.int32:
        yield Problem(path="scan_index", expected="(n,) int32", found=describe(index))
    elif parts.patterns is not None and parts.patterns.ndim == 3 and len(index) != len(parts.patterns):
        expected = f"{len(parts.patterns)} numbers, one per pattern"
        yield Problem(path="scan_index", expected=expected, found=str(len(index)))
