"""CXI files that this library writes: the published layout, and the same scan back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import h5py
import numpy as np
import pytest

import beamline_samples as samples
from ptycho_adapters.files import read_scan, write_scan
from ptycho_core.errors import ScanError, ScanFileError
from ptycho_core.measurement.scan import MeasurementDomain, Scan, ScanMetadata

if TYPE_CHECKING:
    from pathlib import Path

DETECTOR = "entry_1/instrument_1/detector_1"


def a_scan(*, domain: MeasurementDomain = MeasurementDomain.COUNTS) -> Scan:
    """The experiment as a scan with everything that a scan can have."""
    truth = samples.experiment()
    patterns = truth.counts if domain is MeasurementDomain.COUNTS else np.sqrt(truth.counts.astype(np.float32))
    rng = np.random.default_rng(5)
    return Scan(
        patterns=patterns,
        domain=domain,
        positions_px=truth.positions_m / samples.PIXEL_M,
        probe=np.concatenate([truth.probe, 0.1j * truth.probe]),
        object=rng.normal(size=(30, 40)) * (1 + 0.5j),
        bad_pixels=truth.bad,
        metadata=ScanMetadata(
            name="grid α",
            nphotons=1e5,
            pixel_size_m=samples.PIXEL_M,
            wavelength_m=samples.WAVELENGTH_M,
            distance_m=samples.DISTANCE_M,
            extra={"sample": "Siemens star"},
        ),
        scan_index=np.arange(samples.N_PATTERNS),
        commanded_positions_px=truth.positions_m / samples.PIXEL_M + 0.1,
    )


def test_the_layout_is_the_published_one(tmp_path: Path) -> None:
    """Energy in joules, translations (x, y, z) in metres, mask not 0 where bad, and data found by either path."""
    truth = samples.experiment()

    write_scan(a_scan(), tmp_path / "scan.cxi")

    with h5py.File(tmp_path / "scan.cxi", "r") as file:
        assert file["cxi_version"][()] == 160
        assert np.array_equal(file["entry_1/data_1/data"][()], truth.counts)
        assert isinstance(file.get("entry_1/data_1/data", getlink=True), h5py.SoftLink)
        assert np.array_equal(file[f"{DETECTOR}/data"][()], truth.counts)
        assert file["entry_1/instrument_1/source_1/energy"][()] == pytest.approx(8000 * 1.602176634e-19, rel=1e-12)
        assert file[f"{DETECTOR}/distance"][()] == samples.DISTANCE_M
        assert file[f"{DETECTOR}/x_pixel_size"][()] == pytest.approx(samples.DETECTOR_PIXEL_M, rel=1e-12)
        assert np.array_equal(file[f"{DETECTOR}/mask"][()] != 0, truth.bad)
        moved = file["entry_1/data_1/translation"][()]
        np.testing.assert_allclose(moved[:, :2], truth.positions_m[:, ::-1], rtol=1e-12)
        assert moved.shape == (samples.N_PATTERNS, 3)
        assert file["entry_1/image_1/data"].shape == (1, 2, samples.N, samples.N)
        # Where the Ptychodus client finds the object: its centre in the frame of the positions.
        client = {name: value[()] for name, value in file["entry_1/ptychodus"].items()}
    assert client["object_center_x_m"] == pytest.approx(19.5 * samples.PIXEL_M)
    assert client["object_center_y_m"] == pytest.approx(14.5 * samples.PIXEL_M)
    assert client["probe_pixel_width_m"] == client["object_pixel_height_m"] == samples.PIXEL_M


def test_everything_comes_back(tmp_path: Path) -> None:
    """Each part and every word of the metadata survive."""
    scan = a_scan()

    write_scan(scan, tmp_path / "scan.cxi")
    back = read_scan(tmp_path / "scan.cxi")

    assert back.metadata == scan.metadata
    for name in ("patterns", "positions_px", "probe", "object", "bad_pixels", "scan_index", "commanded_positions_px"):
        before, after = getattr(scan, name), getattr(back, name)
        assert np.array_equal(before, after), name
        assert before.dtype == after.dtype, name


def test_amplitudes_are_refused_until_they_are_squared(tmp_path: Path) -> None:
    """CXI data are photons: amplitudes are named with the way out, and their squares are written."""
    scan = a_scan(domain=MeasurementDomain.AMPLITUDE)

    with pytest.raises(ScanError, match=r"domain: expected counts: CXI files hold photons.*--as-counts"):
        write_scan(scan, tmp_path / "scan.cxi")
    assert list(tmp_path.iterdir()) == []
    write_scan(scan.as_counts(), tmp_path / "scan.cxi")
    back = read_scan(tmp_path / "scan.cxi")

    assert back.domain is MeasurementDomain.COUNTS
    assert np.array_equal(back.counts(), scan.counts())


def test_a_scan_without_a_pixel_size_is_refused(tmp_path: Path) -> None:
    """Positions cannot be metres: the writer says so and writes nothing."""
    scan = attrs.evolve(a_scan(), metadata=ScanMetadata(wavelength_m=1e-10))

    with pytest.raises(ScanError, match="pixel_size_m: expected positions that can be written in metres"):
        write_scan(scan, tmp_path / "scan.cxi")

    assert list(tmp_path.iterdir()) == []


def test_translations_changed_by_another_program_count(tmp_path: Path) -> None:
    """The pixels kept beside the metres are taken only while they agree."""
    write_scan(a_scan(), tmp_path / "scan.cxi")
    with h5py.File(tmp_path / "scan.cxi", "r+") as file:
        file["entry_1/sample_1/geometry_1/translation"][:, 0] += 5 * samples.PIXEL_M

    back = read_scan(tmp_path / "scan.cxi")

    np.testing.assert_allclose(back.positions_px[:, 1], a_scan().positions_px[:, 1] + 5, rtol=1e-9)
    assert "the pixels kept beside them are others" in back.metadata.extra["positions_evidence"]


def test_a_caller_who_knows_better_is_noted(tmp_path: Path) -> None:
    """The domain that the caller states counts, and the contradiction is kept."""
    write_scan(a_scan(), tmp_path / "scan.cxi")

    back = read_scan(tmp_path / "scan.cxi", domain="amplitude")

    assert back.domain is MeasurementDomain.AMPLITUDE
    assert back.metadata.extra["domain_evidence"] == "given by the caller; the file says counts"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("measurement_domain", np.bytes_("volts"), "measurement_domain: expected counts or amplitude, found 'volts'"),
        ("metadata", np.bytes_("{"), "_metadata: expected JSON"),
        ("scan_index", np.arange(3), "scan_index: expected 6 numbers"),
    ],
)
def test_damaged_words_of_our_own_are_refused(key: str, value: object, message: str, tmp_path: Path) -> None:
    """What this library adds is read as strictly as the rest."""
    write_scan(a_scan(), tmp_path / "scan.cxi")
    with h5py.File(tmp_path / "scan.cxi", "r+") as file:
        del file[f"entry_1/ptycho_core/{key}"]
        file[f"entry_1/ptycho_core/{key}"] = value

    with pytest.raises(ScanFileError, match=message):
        read_scan(tmp_path / "scan.cxi")
