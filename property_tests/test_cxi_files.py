"""Laws of CXI files: whatever scan they can hold comes back, and bytes alone never break the reader."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ptycho_adapters.files import read_scan, write_scan
from ptycho_adapters.files.writers import choose_writer
from ptycho_core.errors import ScanFileError
from strategies_scan import scans

if TYPE_CHECKING:
    from ptycho_core.measurement.scan import Scan


@st.composite
def scans_in_metres(draw: st.DrawFn) -> Scan:
    """Scans of counts whose object pixel is known, in the range of optics."""
    scan = attrs.evolve(draw(scans()), domain="counts")
    pixel_m = draw(st.floats(min_value=1e-13, max_value=1e-3))
    return attrs.evolve(scan, metadata=attrs.evolve(scan.metadata, pixel_size_m=pixel_m))


@given(scans_in_metres())
def test_any_scan_with_a_pixel_survives(scan: Scan) -> None:
    """Counts, probe, object, mask, indexes and metadata are equal, positions to the bit."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.cxi"
        write_scan(scan, path)
        back = read_scan(path)

    assert back.metadata == scan.metadata
    assert np.array_equal(back.counts(), scan.counts())
    assert np.array_equal(back.positions_px, scan.positions_px)
    assert np.array_equal(back.probe, scan.probe)
    assert np.array_equal(back.scan_index, scan.scan_index)
    for name in ("object", "bad_pixels", "commanded_positions_px"):
        before, after = getattr(scan, name), getattr(back, name)
        assert (before is None) == (after is None)
        assert before is None or np.array_equal(before, after)


@given(scans())
def test_what_the_format_cannot_hold_is_named(scan: Scan) -> None:
    """Amplitudes and a missing pixel size, and only those, are refused."""
    problems = choose_writer(Path("scan.cxi")).refuses(scan)

    expected = {"domain": scan.domain != "counts", "pixel_size_m": scan.metadata.pixel_size_m is None}
    assert [problem.path for problem in problems] == [path for path, wrong in expected.items() if wrong]


@given(scans_in_metres(), st.data())
def test_damage_is_at_worst_one_kind_of_error(scan: Scan, data: st.DataObject) -> None:
    """Bytes changed anywhere give a scan or ScanFileError, and the file stays as it is."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.cxi"
        write_scan(scan, path)
        content = bytearray(path.read_bytes())
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
            content[place] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
        try:
            assert read_scan(path).n_patterns >= 1
        except ScanFileError as error:
            assert str(path) in str(error)  # noqa: PT017 - success is fine too
        assert path.read_bytes() == content
        assert [file.name for file in Path(folder).iterdir()] == ["scan.cxi"]
