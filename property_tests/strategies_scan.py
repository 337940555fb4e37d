"""Strategies for scans, their metadata and ways to group them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ptycho_core.measurement.grouping import Grouping
from ptycho_core.measurement.scan import MeasurementDomain, Scan, ScanMetadata

_DTYPES = st.sampled_from([np.dtype(name) for name in ("uint16", "uint32", "float32", "float64")])


def lengths_m() -> st.SearchStrategy[float]:
    """Positive finite lengths in metres."""
    return st.floats(min_value=1e-15, max_value=1e3)


def metadata() -> st.SearchStrategy[ScanMetadata]:
    """Metadata with any mixture of known and unknown."""
    texts = st.text(max_size=8)
    return st.builds(
        ScanMetadata,
        name=texts,
        nphotons=st.none() | st.floats(min_value=1e-3, max_value=1e12),
        pixel_size_m=st.none() | lengths_m(),
        wavelength_m=st.none() | lengths_m(),
        distance_m=st.none() | lengths_m(),
        extra=st.dictionaries(texts, texts, max_size=3),
    )


def positions(n_points: int, *, largest_px: float = 1e4) -> st.SearchStrategy[npt.NDArray[np.float64]]:
    """(n, 2) positions in px, not all in one place."""
    coordinates = st.floats(min_value=-largest_px, max_value=largest_px)
    drawn = hnp.arrays(np.float64, (n_points, 2), elements=coordinates)
    return drawn.filter(lambda array: n_points == 1 or bool(np.ptp(array, axis=0).max() > 1e-2))


def complex_arrays(shape: tuple[int, ...]) -> st.SearchStrategy[npt.NDArray[np.complex64]]:
    """Finite complex64 arrays."""
    elements = st.complex_numbers(max_magnitude=1e6, allow_nan=False, width=64)
    return hnp.arrays(np.complex64, shape, elements=elements)


@st.composite
def scans(draw: st.DrawFn, *, max_patterns: int = 5, largest_px: float = 1e4) -> Scan:
    """Small valid scans of every dtype, with and without the optional parts."""
    n, side, modes = draw(st.integers(1, max_patterns)), draw(st.integers(1, 4)), draw(st.integers(1, 2))
    dtype = draw(_DTYPES)
    values = st.integers(0, 60_000) if dtype.kind == "u" else st.floats(0.0, 60_000.0, width=32)
    patterns = draw(hnp.arrays(dtype, (n, side, side), elements=values))
    # One pixel that always sees light keeps every frame valid; it is never masked.
    patterns[:, 0, 0] += 1
    mask = draw(st.none() | hnp.arrays(np.bool_, (side, side)))
    if mask is not None:
        mask[0, 0] = False
    probe = draw(complex_arrays((modes, side, side)))
    probe[0, 0, 0] = 1.0
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    return Scan(
        patterns=patterns,
        domain=draw(st.sampled_from(MeasurementDomain)),
        positions_px=draw(positions(n, largest_px=largest_px)),
        probe=probe,
        object=draw(st.none() | complex_arrays(shape)),
        bad_pixels=mask,
        metadata=draw(metadata()),
        scan_index=draw(hnp.arrays(np.int32, n)),
        commanded_positions_px=draw(st.none() | positions(n, largest_px=largest_px)),
    )


def scan_at(positions_px: npt.NDArray[np.float64]) -> Scan:
    """A scan of which only the positions matter."""
    return Scan(
        patterns=np.ones((len(positions_px), 2, 2), dtype=np.uint16),
        domain=MeasurementDomain.COUNTS,
        positions_px=positions_px,
        probe=np.ones((2, 2)),
    )


@st.composite
def grouped_points(draw: st.DrawFn) -> tuple[Scan, Grouping]:
    """A scan and a grouping that it can give."""
    gridsize = draw(st.integers(1, 3))
    members = gridsize**2
    n_points = draw(st.integers(members, members + 12))
    neighbor_count = draw(st.integers(members, members + 4))
    oversample = gridsize > 1 and draw(st.booleans())
    n_groups = draw(st.integers(1, n_points * (3 if oversample and n_points > members else 1)))
    grouping = Grouping(
        n_groups=n_groups,
        gridsize=gridsize,
        neighbor_count=neighbor_count,
        seed=draw(st.integers(0, 2**32)),
        enable_oversampling=oversample,
        sequential_sampling=draw(st.booleans()),
    )
    return scan_at(draw(positions(n_points))), grouping
