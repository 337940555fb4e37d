"""Laws of every scan format: what it can hold survives, and what it cannot hold is refused by name."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ptycho_adapters.files import ScanFormat, read_file_facts, read_scan, write_scan
from ptycho_adapters.files.writers import WRITERS, Writer
from ptycho_core.errors import ScanError
from ptycho_core.measurement.scan import MeasurementDomain, Scan, ScanMetadata
from strategies_scan import complex_arrays, lengths_m, scans

if TYPE_CHECKING:
    from collections.abc import Iterator

_FORMATS = pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.format)
_CHOOSY = [writer for writer in WRITERS if writer.format is not ScanFormat.NPZ]
_REASONS = {field.name for field in attrs.fields(Scan)} | {
    *(field.name for field in attrs.fields(ScanMetadata)),
    *("energy_ev", "detector_pixel_m"),
}


@pytest.fixture(autouse=True, scope="module")
def _without_waiting_for_the_disk() -> Iterator[None]:
    """Leave out the wait for the disk, which is no part of these laws and most of their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ptycho_adapters.atomic.os.fsync", lambda _: None)
        yield


def _differences(one: Scan, other: Scan) -> list[str]:
    found = []
    for field in attrs.fields(Scan):
        left, right = getattr(one, field.name), getattr(other, field.name)
        if field.name == "metadata":
            # What was noted on reading is not part of what was written.
            right = attrs.evolve(right, extra={key: right.extra[key] for key in left.extra if key in right.extra})
        if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
            same = left.dtype == right.dtype and np.array_equal(left, right)
        else:
            same = bool(left == right) if left is None or right is None or not isinstance(left, np.ndarray) else False
        if not same:
            found.append(field.name)
    return found


def _place(folder: str, writer: Writer) -> Path:
    return Path(folder) / f"scan{(*writer.suffixes, '.npz')[0]}"


@st.composite
def scans_for(draw: st.DrawFn, writer: Writer) -> Scan:
    """Scans that mostly suit a format: its domain, known geometry, positions not too far apart."""
    scan = draw(scans(largest_px=500.0))
    if writer.format is ScanFormat.NPZ or draw(st.integers(0, 9)) == 0:
        return scan
    if writer.format is ScanFormat.PTYCHOPINN:
        object_ = draw(complex_arrays((3, 4))) if scan.object is None else scan.object
        return attrs.evolve(scan, domain=MeasurementDomain.AMPLITUDE, object=object_)
    metadata = attrs.evolve(
        scan.metadata, pixel_size_m=draw(lengths_m()), wavelength_m=draw(lengths_m()), distance_m=draw(lengths_m())
    )
    return attrs.evolve(scan, domain=MeasurementDomain.COUNTS, metadata=metadata)


@_FORMATS
@given(st.data())
def test_any_scan_survives_a_format_that_can_hold_it(writer: Writer, data: st.DataObject) -> None:
    """What is written is what is read, to the last bit: arrays, dtypes, domain, geometry and texts.

    Number, size, dtype and bytes are known without reading a pattern, and they are right.
    """
    scan = data.draw(scans_for(writer))
    assume(not writer.refuses(scan))
    with tempfile.TemporaryDirectory() as folder:
        path = _place(folder, writer)
        write_scan(scan, path, format=writer.format)

        assert _differences(scan, read_scan(path, detector_check="off")) == []
        facts = read_file_facts(path)

    # PtychoPINN's NPZ is ours with more in it.
    assert facts.format == (ScanFormat.NPZ if writer.format is ScanFormat.PTYCHOPINN else writer.format)
    assert (facts.n_patterns, facts.frame) == (scan.n_patterns, (scan.N, scan.N))
    assert facts.dtype == scan.patterns.dtype
    assert facts.pattern_bytes == scan.patterns.nbytes


@pytest.mark.parametrize("writer", _CHOOSY, ids=lambda writer: writer.format)
@given(scans())
def test_what_a_format_cannot_hold_is_refused_by_name(writer: Writer, scan: Scan) -> None:
    """Either a scan is written, or every reason is named by the path of a field and nothing is left behind."""
    reasons = writer.refuses(scan)
    assume(reasons)
    with tempfile.TemporaryDirectory() as folder:
        path = _place(folder, writer)

        with pytest.raises(ScanError) as caught:
            write_scan(scan, path, format=writer.format)

        assert caught.value.problems == reasons
        assert {reason.path.split(".")[0] for reason in reasons} <= _REASONS
        assert list(Path(folder).iterdir()) == []


@pytest.mark.parametrize(
    "writer", [writer for writer in _CHOOSY if writer.format is not ScanFormat.PTYCHOPINN], ids=lambda w: w.format
)
@given(st.data())
def test_amplitudes_are_refused_by_a_format_of_counts_and_their_squares_are_not(
    writer: Writer, data: st.DataObject
) -> None:
    """One rule for all of them: the domain is named, and it is the only thing that squaring mends."""
    scan = attrs.evolve(data.draw(scans_for(writer)), domain=MeasurementDomain.AMPLITUDE)
    assume(bool((scan.counts() > 0).any(axis=(1, 2)).all()))

    before, after = writer.refuses(scan), writer.refuses(scan.as_counts())

    assert [problem for problem in before if problem.path == "domain"] == list(before[:1])
    assert "--as-counts" in before[0].fix
    assert after == before[1:]
