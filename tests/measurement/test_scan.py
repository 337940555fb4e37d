"""The scan as a value: what it accepts, what it refuses, what it gives."""

from __future__ import annotations

import pickle
from typing import TypedDict

import attrs
import numpy as np
import numpy.typing as npt
import pytest

from ptycho_core.errors import ScanError
from ptycho_core.measurement.scan import (
    Amplitude,
    Counts,
    MeasurementDomain,
    Scan,
    ScanMetadata,
    amplitude_from_counts,
    counts_from_amplitude,
)


class Parts(TypedDict, total=False):
    """Arguments of a scan; values are given as a user would give them."""

    patterns: npt.ArrayLike
    domain: str
    positions_px: npt.ArrayLike
    probe: npt.ArrayLike
    object: npt.ArrayLike | None
    bad_pixels: npt.ArrayLike | None
    scan_index: npt.ArrayLike
    commanded_positions_px: npt.ArrayLike | None


def _parts(**changes: npt.ArrayLike | None) -> Parts:
    rng = np.random.default_rng(0)
    usual: Parts = {
        "patterns": rng.integers(1, 50, (3, 8, 8)).astype(np.uint16),
        "domain": "counts",
        "positions_px": [[0.0, 0.0], [4.5, 1.0], [9.0, -2.0]],
        "probe": np.ones((8, 8), dtype=np.complex64),
    }
    return {**usual, **changes}  # type: ignore[typeddict-item]


def test_a_two_dimensional_probe_is_one_mode() -> None:
    """(N, N) becomes (1, N, N)."""
    scan = Scan(**_parts())

    assert scan.probe.shape == (1, 8, 8)
    assert (scan.n_patterns, scan.N, scan.n_modes) == (3, 8, 1)


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "float32", "float64"])
def test_measured_dtypes_are_kept(dtype: str) -> None:
    """Patterns stay in the dtype they were measured in."""
    assert Scan(**_parts(patterns=np.ones((3, 8, 8), dtype=dtype))).patterns.dtype == dtype


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [("uint8", "uint16"), ("int16", "uint32"), ("int64", "uint32"), (">u2", "uint16"), (">f4", "float32")],
)
def test_other_dtypes_are_widened_without_loss(dtype: str, kept: str) -> None:
    """Small, signed and foreign-endian numbers become the nearest kept dtype with equal values."""
    values = np.arange(1, 193).reshape(3, 8, 8)

    patterns = Scan(**_parts(patterns=values.astype(dtype))).patterns

    assert patterns.dtype == np.dtype(kept)
    assert patterns.dtype.isnative
    assert np.array_equal(patterns, values)


def test_every_array_is_read_only() -> None:
    """No array of a scan can be written to."""
    scan = Scan(
        **_parts(object=np.ones((2, 2)), bad_pixels=np.zeros((8, 8), dtype=bool), commanded_positions_px=np.eye(3, 2))
    )
    arrays = [value for value in attrs.asdict(scan, recurse=False).values() if isinstance(value, np.ndarray)]

    assert len(arrays) == 7
    assert not any(array.flags.writeable for array in arrays)


def test_the_callers_array_stays_its_own() -> None:
    """Later changes of the caller's array do not reach the scan, and its flags are not touched."""
    patterns = np.ones((3, 8, 8), dtype=np.uint16)
    scan = Scan(**_parts(patterns=patterns))

    patterns[0, 0, 0] = 99

    assert scan.patterns[0, 0, 0] == 1


def test_sealed_arrays_are_not_copied() -> None:
    """Data that nobody can write to are shared, so large scans are held once."""
    scan = Scan(**_parts())

    assert np.shares_memory(attrs.evolve(scan, domain="amplitude").patterns, scan.patterns)


def test_a_read_only_view_of_a_writeable_array_is_copied() -> None:
    """A view's flag does not protect the array behind it."""
    patterns = np.ones((3, 8, 8), dtype=np.uint16)
    view = patterns.view()
    view.setflags(write=False)

    assert not np.shares_memory(Scan(**_parts(patterns=view)).patterns, patterns)


def test_counts_and_amplitude_of_counts() -> None:
    """Counts come as they are, amplitudes as their square roots, both float32."""
    scan = Scan(**_parts(patterns=np.full((3, 8, 8), 9, dtype=np.uint16)))

    assert scan.counts().dtype == scan.amplitude().dtype == np.float32
    assert np.all(scan.counts() == 9.0)
    assert np.all(scan.amplitude() == 3.0)


def test_counts_and_amplitude_of_amplitudes() -> None:
    """Amplitudes come as they are, counts as their squares."""
    scan = Scan(**_parts(patterns=np.full((3, 8, 8), 3.0), domain="amplitude"))

    assert np.all(scan.counts() == 9.0)
    assert np.all(scan.amplitude() == 3.0)


def test_the_two_conversions_are_inverse() -> None:
    """Whole counts survive a square root and a square."""
    counts = Counts(np.arange(1000, dtype=np.float32))

    back = counts_from_amplitude(amplitude_from_counts(counts))

    np.testing.assert_allclose(back, counts, rtol=3e-7)
    assert np.all(counts_from_amplitude(Amplitude(np.array([0.0, 2.0], dtype=np.float32))) == [0.0, 4.0])


def test_a_subset_keeps_what_belongs_together() -> None:
    """Patterns, positions, indexes and commanded positions follow the chosen order."""
    scan = Scan(**_parts(scan_index=[5, 6, 7], commanded_positions_px=[[0.0, 0.0], [4.0, 1.0], [9.0, -2.0]]))

    part = scan.subset([2, 0])

    assert np.array_equal(part.patterns, scan.patterns[[2, 0]])
    assert np.array_equal(part.positions_px, scan.positions_px[[2, 0]])
    assert list(part.scan_index) == [7, 5]
    assert part.commanded_positions_px is not None
    assert part.commanded_positions_px[0, 0] == 9.0
    assert part.probe is scan.probe


@pytest.mark.parametrize("indices", [[0, 3], [-1], [True, False, True], [0.0], [[0, 1]]])
def test_a_subset_refuses_what_is_no_list_of_indices(indices: npt.ArrayLike) -> None:
    """Out-of-range, negative, boolean, fractional and nested indices are errors."""
    with pytest.raises(ScanError, match="indices: expected a list of integers from 0 to 2"):
        Scan(**_parts()).subset(indices)


def test_one_pattern_is_a_scan() -> None:
    """A single pattern has nothing to differ from."""
    assert Scan(**_parts(patterns=np.ones((1, 8, 8)), positions_px=[[1.0, 2.0]])).n_patterns == 1


_NAN = np.full((3, 8, 8), np.nan)
_DARK = np.ones((3, 8, 8))
_DARK[1] = 0.0
_LIT_WHERE_BAD = np.zeros((3, 8, 8))
_LIT_WHERE_BAD[:, 0, 0] = 7.0
_CORNER = np.zeros((8, 8), dtype=bool)
_CORNER[0, 0] = True


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"patterns": np.ones((3, 8, 9))}, "patterns", "square diffraction patterns (n, N, N)"),
        ({"patterns": np.ones((8, 8))}, "patterns", "shape (8, 8)"),
        ({"patterns": np.ones((0, 8, 8))}, "patterns", "n >= 1"),
        ({"patterns": np.ones((3, 8, 8)) * 1j}, "patterns", "found complex128"),
        ({"patterns": np.ones((3, 8, 8), dtype=bool)}, "patterns", "found bool"),
        ({"patterns": np.full((3, 8, 8), "a")}, "patterns", "found <U1"),
        ({"patterns": _NAN}, "patterns", "192 NaN or infinite values"),
        ({"patterns": -np.ones((3, 8, 8))}, "patterns", "values >= 0, found a smallest value of -1"),
        ({"patterns": -np.ones((3, 8, 8), dtype=np.int32)}, "patterns", "values >= 0"),
        ({"patterns": np.full((3, 8, 8), 1e19)}, "patterns", "a largest value of 1e+19"),
        ({"patterns": np.full((3, 8, 8), 1e10), "domain": "amplitude"}, "patterns", "values <= 1e+09"),
        ({"patterns": _DARK}, "patterns", "1 frame without any: 1"),
        ({"patterns": np.zeros((3, 8, 8))}, "patterns", "3 frames without any: 0, 1, 2"),
        ({"patterns": _LIT_WHERE_BAD, "bad_pixels": _CORNER}, "patterns", "3 frames without any"),
        ({"positions_px": np.eye(5, 2)}, "positions_px", "5 positions for 3 patterns"),
        ({"positions_px": np.ones((3, 2))}, "positions_px", "all positions equal"),
        ({"positions_px": np.eye(3, 2) * 1e-6}, "positions_px", "within 1e-06 px; divide positions in metres"),
        ({"positions_px": np.full((3, 2), np.nan)}, "positions_px", "finite coordinates"),
        ({"positions_px": np.full((3, 2), np.inf)}, "positions_px", "finite coordinates"),
        ({"positions_px": np.full((3, 2), np.longdouble("1e400"))}, "positions_px", "finite coordinates"),
        ({"positions_px": np.ones(3)}, "positions_px", "(n, 2) real numbers"),
        ({"positions_px": np.ones((3, 2)) * 1j}, "positions_px", "(n, 2) real numbers"),
        ({"commanded_positions_px": np.ones((2, 2))}, "commanded_positions_px", "2 positions for 3 patterns"),
        ({"probe": np.ones((6, 6))}, "probe", "the size of the patterns, 8×8, found 6×6"),
        ({"probe": np.zeros((8, 8))}, "probe", "zeros only"),
        ({"probe": np.full((8, 8), np.inf)}, "probe", "finite values"),
        ({"probe": np.full((8, 8), 1e300)}, "probe", "finite values"),
        ({"probe": np.full((8, 8), 1e20)}, "probe", "from 1e-30 to 1e+30 photons per frame, found 6.4e+41"),
        ({"probe": np.full((8, 8), 1e-20)}, "probe", "from 1e-30 to 1e+30 photons per frame, found 6.4e-39"),
        ({"probe": np.full((8, 8), "a")}, "probe", "complex numbers, found <U1"),
        ({"probe": np.ones(8)}, "probe", "shape (8,)"),
        ({"object": np.full((4, 4), np.nan)}, "object", "finite values"),
        ({"object": np.ones((2, 4, 4))}, "object", "one layer (H, W)"),
        ({"bad_pixels": np.zeros((8, 7), dtype=bool)}, "bad_pixels", "(8, 8), found (8, 7)"),
        ({"bad_pixels": np.zeros((8, 8))}, "bad_pixels", "True where bad, found shape (8, 8) of float64"),
        ({"bad_pixels": np.ones((8, 8), dtype=bool)}, "bad_pixels", "at least one good pixel"),
        ({"scan_index": [0, 1]}, "scan_index", "3 numbers, one per pattern, found 2"),
        ({"scan_index": [0.5, 1.0, 2.0]}, "scan_index", "int32"),
        ({"scan_index": [0, 1, 2**40]}, "scan_index", "int32, found shape (3,) of int64"),
        ({"domain": "intensity"}, "domain", "counts or amplitude, found 'intensity'"),
    ],
)
def test_what_is_no_scan_is_refused_with_the_reason(
    changes: dict[str, npt.ArrayLike | None], path: str, message: str
) -> None:
    """Each defect is a problem at its field that says what was expected and found."""
    with pytest.raises(ScanError) as caught:
        Scan(**_parts(**changes))

    texts = [str(problem) for problem in caught.value.problems if problem.path == path]
    assert any(message in text for text in texts)


def test_all_problems_come_together() -> None:
    """Four independent defects give four problems in one error."""
    with pytest.raises(ScanError) as caught:
        Scan(
            **_parts(
                patterns=_NAN,
                positions_px=np.ones((3, 2)),
                probe=np.zeros((8, 8)),
                bad_pixels=np.zeros((2, 2), dtype=bool),
            )
        )

    assert [problem.path for problem in caught.value.problems] == ["patterns", "positions_px", "probe", "bad_pixels"]


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_metadata_refuse_impossible_numbers(value: float) -> None:
    """Lengths and photon numbers are finite and positive."""
    with pytest.raises(ScanError, match="nphotons: expected a finite number > 0"):
        ScanMetadata(nphotons=value)


def test_metadata_cannot_change_and_travel_between_processes() -> None:
    """Extra entries are a copy without assignment, equal after pickling."""
    extra = {"beamline": "2-ID"}
    metadata = ScanMetadata(extra=extra)
    extra["beamline"] = "other"

    assert metadata.extra == {"beamline": "2-ID"}
    assert not hasattr(metadata.extra, "__setitem__")
    assert pickle.loads(pickle.dumps(metadata)) == metadata
    assert hash(metadata) == hash(ScanMetadata(extra={"beamline": "2-ID"}))


def test_a_scan_travels_between_processes() -> None:
    """A pickled scan comes back with equal arrays and the same domain."""
    scan = Scan(**_parts())

    back = pickle.loads(pickle.dumps(scan))

    assert np.array_equal(back.patterns, scan.patterns)
    assert back.domain is MeasurementDomain.COUNTS


def test_amplitudes_become_counts_on_request() -> None:
    """The squares are photons, everything else stays, and a note says where they come from."""
    amplitude = Scan(**_parts(domain="amplitude", scan_index=[0, 1, 1]))
    noted = attrs.evolve(amplitude, metadata=ScanMetadata(name="a", extra={"domain_evidence": "said so", "b": "c"}))

    counts = noted.as_counts()

    assert counts.domain is MeasurementDomain.COUNTS
    assert np.array_equal(counts.patterns, noted.patterns.astype(np.int64) ** 2)
    assert np.array_equal(counts.amplitude(), noted.amplitude())
    for name in ("positions_px", "probe", "scan_index"):
        assert np.array_equal(getattr(counts, name), getattr(noted, name))
    assert counts.metadata.name == "a"
    assert counts.metadata.extra == {"domain_evidence": "squares of amplitudes; said so", "b": "c"}
    assert amplitude.as_counts().metadata.extra == {"domain_evidence": "squares of amplitudes"}


def test_counts_stay_as_they_are() -> None:
    """A scan of counts is its own answer, in the dtype that it was measured in."""
    scan = Scan(**_parts())

    assert scan.as_counts() is scan


@pytest.mark.parametrize("patterns", [np.float32(0), np.float32("nan"), np.ones(3, np.float32), np.ones((0, 8, 8))])
def test_what_is_no_stack_is_refused_by_its_shape(patterns: npt.ArrayLike) -> None:
    """A lone number, a list, an empty stack: each is named with its shape, whatever its values."""
    with pytest.raises(ScanError, match=r"patterns: expected a stack of square diffraction patterns"):
        Scan(**_parts(patterns=patterns))


def test_positions_without_coordinates_are_refused() -> None:
    """Two positions of no coordinate each are a problem of the positions, not a failure of the check."""
    with pytest.raises(ScanError, match="positions_px: expected"):
        Scan(
            patterns=np.ones((2, 64, 64), np.float32),
            domain=MeasurementDomain.COUNTS,
            positions_px=np.zeros((2, 0)),
            probe=np.ones((64, 64), np.complex64),
        )
