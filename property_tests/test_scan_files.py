"""Laws of scans and their files."""

from __future__ import annotations

import tempfile
from pathlib import Path

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptycho_adapters.files import read_scan, write_scan
from ptycho_core.errors import ScanFileError
from ptycho_core.measurement.scan import MeasurementDomain, Scan
from strategies_scan import scans


def _same(one: Scan, other: Scan) -> bool:
    for field in attrs.fields(Scan):
        left, right = getattr(one, field.name), getattr(other, field.name)
        if isinstance(left, np.ndarray):
            if left.dtype != right.dtype or not np.array_equal(left, right):
                return False
        elif left != right:
            return False
    return True


def _bytes_of(scan: Scan, folder: str) -> bytes:
    path = Path(folder) / "scan.npz"
    write_scan(scan, path)
    return path.read_bytes()


@given(scans())
def test_any_scan_survives_its_file(scan: Scan) -> None:
    """What is written is what is read: dtypes, bits, domain and metadata."""
    with tempfile.TemporaryDirectory() as folder:
        write_scan(scan, Path(folder) / "scan.npz")

        assert _same(read_scan(Path(folder) / "scan.npz"), scan)


@given(scans(), st.data())
def test_damaged_files_give_a_scan_or_the_one_error(scan: Scan, data: st.DataObject) -> None:
    """Bytes overwritten or cut off never raise anything but ScanFileError."""
    with tempfile.TemporaryDirectory() as folder:
        content = bytearray(_bytes_of(scan, folder))
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        keep = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
        path = Path(folder) / "scan.npz"
        path.write_bytes(content[:keep])

        try:
            result: Scan | ScanFileError = read_scan(path)
        except ScanFileError as error:
            result = error

        assert isinstance(result, Scan) or str(path) in str(result)


@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_give_the_one_error(content: bytes, like_zip: bool) -> None:
    """No content at all raises anything but ScanFileError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.npz"
        path.write_bytes(b"PK\x03\x04" * like_zip + content)

        with pytest.raises(ScanFileError):
            read_scan(path)


@given(scans(max_patterns=6), st.data())
def test_a_subset_of_a_subset_is_a_subset(scan: Scan, data: st.DataObject) -> None:
    """Choosing twice is choosing the chosen; choosing everything in order changes nothing."""
    assert _same(scan.subset(np.arange(scan.n_patterns)), scan)
    if scan.n_patterns == 1:
        return
    first = data.draw(st.permutations(range(scan.n_patterns)))
    second = data.draw(st.permutations(range(scan.n_patterns)))

    assert _same(scan.subset(first).subset(second), scan.subset(np.asarray(first)[second]))


@given(scans())
def test_counts_are_squares_of_amplitudes(scan: Scan) -> None:
    """In either domain counts and amplitude agree to float32 and keep their shape."""
    counts, amplitude = scan.counts(), scan.amplitude()

    assert counts.shape == amplitude.shape == scan.patterns.shape
    np.testing.assert_allclose(np.square(amplitude, dtype=np.float64), counts, rtol=4e-7, atol=1e-30)
    stated = counts if scan.domain is MeasurementDomain.COUNTS else amplitude
    assert np.array_equal(stated, scan.patterns.astype(np.float32))
