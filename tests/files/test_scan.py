"""Reading and writing scans: the legacy keys, and the evidence for layout and domain."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest

from ptycho_adapters.files import read_scan, write_scan
from ptycho_core.errors import ConfigError, ScanFileError
from ptycho_core.measurement.scan import MeasurementDomain, Scan, ScanMetadata
from scan_arrays_sample import Arrays, sample_arrays, save_npz

if TYPE_CHECKING:
    from collections.abc import Callable

SIEMENS = Path(__file__).parents[3] / "shared" / "data" / "siemens_top.npz"


def _amplitude(arrays: Arrays) -> npt.NDArray[np.float32]:
    return np.sqrt(arrays["diff3d"].astype(np.float32))


def test_coordinates_become_y_x(tmp_path: Path) -> None:
    """Columns and rows of the file become (y, x) rows."""
    scan = read_scan(save_npz(tmp_path / "scan.npz", sample_arrays()))

    assert scan.positions_px.tolist() == [[20.0, 10.0], [21.0, 14.0], [25.5, 18.0]]
    assert scan.patterns.dtype == np.uint16
    assert scan.n_modes == 1


def test_the_name_of_the_file_does_not_matter(tmp_path: Path) -> None:
    """An NPZ file is recognised by its content, also from a str path."""
    path = save_npz(tmp_path / "scan.npz", sample_arrays()).rename(tmp_path / "scan.dat")

    assert read_scan(str(path)).n_patterns == 3


def test_optional_keys_are_kept(tmp_path: Path) -> None:
    """Object, mask, scan index, commanded positions and photon number arrive."""
    arrays = sample_arrays() | {
        "objectGuess": np.ones((1, 30, 40), dtype=np.complex64),
        "bad_pixels": np.eye(8, dtype=np.uint8),
        "scan_index": np.array([0.0, 0.0, 1.0]),
        "xcoords_start": np.array([10.0, 14.0, 19.0]),
        "ycoords_start": np.array([20.0, 21.0, 25.0]),
        "_metadata": np.array(json.dumps({"physics_parameters": {"nphotons": 1e6}})),
    }

    scan = read_scan(save_npz(tmp_path / "scan.npz", arrays))

    assert scan.object is not None
    assert scan.object.shape == (30, 40)
    assert scan.bad_pixels is not None
    assert scan.bad_pixels.sum() == 8
    assert scan.scan_index.tolist() == [0, 0, 1]
    assert scan.commanded_positions_px is not None
    assert scan.commanded_positions_px[2].tolist() == [25.0, 19.0]
    assert scan.metadata.nphotons == 1e6


def test_metadata_in_a_pickled_string_are_read_without_unpickling(tmp_path: Path) -> None:
    """The legacy form, JSON in an object array, gives its photon number."""
    text = json.dumps({"physics_parameters": {"nphotons": 5e5}})

    scan = read_scan(save_npz(tmp_path / "scan.npz", sample_arrays() | {"_metadata": np.array(text, dtype=object)}))

    assert scan.metadata.nphotons == 5e5


def test_only_start_coordinates_are_taken_and_noted(tmp_path: Path) -> None:
    """A file with commanded positions alone is read by them, and says so."""
    arrays = sample_arrays()
    arrays["xcoords_start"], arrays["ycoords_start"] = arrays.pop("xcoords"), arrays.pop("ycoords")

    scan = read_scan(save_npz(tmp_path / "scan.npz", arrays))

    assert scan.positions_px[0].tolist() == [20.0, 10.0]
    assert "xcoords_start" in scan.metadata.extra["positions_evidence"]


def test_unknown_keys_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is not read is listed in the metadata and the log."""
    with caplog.at_level(logging.INFO):
        scan = read_scan(
            save_npz(tmp_path / "scan.npz", sample_arrays() | {"Y": np.ones(3), "A": np.array({}, dtype=object)})
        )

    assert scan.metadata.extra["ignored_keys"] == "A, Y"
    assert "ignored keys A, Y" in caplog.text


@pytest.mark.parametrize(
    "turn",
    [
        lambda stack: np.moveaxis(stack, 0, 2),
        lambda stack: stack[..., None],
        np.asfortranarray,
        lambda stack: stack.astype(">u4"),
    ],
    ids=["patterns last", "trailing one", "fortran order", "big endian"],
)
def test_layouts_give_the_same_scan(
    turn: Callable[[npt.NDArray[np.generic]], npt.NDArray[np.generic]], tmp_path: Path
) -> None:
    """However the stack is stored, the same patterns come out."""
    arrays = sample_arrays()
    turned = {**arrays, "diffraction": turn(arrays["diff3d"])}
    del turned["diff3d"]

    assert np.array_equal(read_scan(save_npz(tmp_path / "scan.npz", turned)).patterns, arrays["diff3d"])


@pytest.mark.parametrize("shape", [(8, 8, 1), (8, 8, 3), (3, 8, 8), (1, 3, 8, 8)])
def test_probe_layouts(shape: tuple[int, ...], tmp_path: Path) -> None:
    """Modes may come first or last; what comes out is (modes, N, N)."""
    arrays = sample_arrays() | {"probeGuess": np.ones(shape, dtype=np.complex64)}

    assert read_scan(save_npz(tmp_path / "scan.npz", arrays)).probe.shape[1:] == (8, 8)


@pytest.mark.parametrize("last", [False, True])
def test_a_cube_is_turned_by_where_the_light_is(last: bool, tmp_path: Path) -> None:
    """With as many patterns as pixels per side, the axis with even totals is the patterns' axis."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-4:4, -4:4]
    stack = rng.poisson(200.0 * np.exp(-(x**2 + y**2) / 6.0) + 0.2, (8, 8, 8)).astype(np.uint16)
    arrays = sample_arrays() | {"xcoords": np.arange(8.0), "ycoords": np.arange(8.0)}
    del arrays["diff3d"]

    scan = read_scan(
        save_npz(tmp_path / "a.npz", arrays | {"diffraction": np.moveaxis(stack, 0, 2) if last else stack})
    )

    assert np.array_equal(scan.patterns, stack)
    assert ("last" if last else "first") in scan.metadata.extra["layout_evidence"]


def test_an_undecidable_cube_is_refused(tmp_path: Path) -> None:
    """Noise alone does not say which axis is which."""
    arrays = sample_arrays() | {"xcoords": np.arange(8.0), "ycoords": np.arange(8.0)}
    del arrays["diff3d"]
    arrays["diffraction"] = np.random.default_rng(0).integers(1, 9, (8, 8, 8)).astype(np.uint16)

    with pytest.raises(
        ScanFileError, match=r"diffraction: expected patterns along a recognisable axis.*add the text pattern_layout"
    ):
        read_scan(save_npz(tmp_path / "scan.npz", arrays))


def _flux(arrays: Arrays, total: float) -> Arrays:
    """Scale the probe to a flux, and break the wholeness of the numbers, which would be evidence of its own."""
    probe = arrays["probeGuess"].astype(np.complex128)
    return {**arrays, "probeGuess": probe * np.sqrt(total / np.sum(np.abs(probe) ** 2))}


@pytest.mark.parametrize(
    ("patterns", "flux_of", "domain", "evidence"),
    [
        (lambda counts: counts, None, "counts", "integer dtype uint16"),
        (lambda counts: counts.astype(np.float32), None, "counts", "whole numbers"),
        (lambda counts: np.sqrt(counts.astype(np.float32)), None, "amplitude", "squares are whole numbers"),
        (lambda counts: counts * np.pi, "counts", "counts", "probe flux"),
        (lambda counts: np.sqrt(counts * np.pi), "amplitude", "amplitude", "probe flux"),
    ],
)
def test_the_domain_is_found_by_evidence(
    patterns: Callable[[npt.NDArray[np.generic]], npt.NDArray[np.float64]],
    flux_of: str | None,
    domain: str,
    evidence: str,
    tmp_path: Path,
) -> None:
    """Integers, whole squares and the probe's flux each tell counts from amplitudes, and the reason is recorded."""
    arrays = sample_arrays()
    values = patterns(arrays["diff3d"])
    arrays["diff3d"] = values
    if flux_of is not None:
        photons = values if flux_of == "counts" else values**2
        arrays = _flux(arrays, 1.1 * float(photons.sum()) / 3)

    scan = read_scan(save_npz(tmp_path / "scan.npz", arrays))

    assert scan.domain == domain
    assert evidence in scan.metadata.extra["domain_evidence"]


@pytest.mark.parametrize("small", [2.0**-5, 1e-3], ids=["1/32", "a thousandth"])
def test_a_small_number_is_not_taken_for_the_root_of_a_whole_one(small: float, tmp_path: Path) -> None:
    """Only numbers whose squares are whole as exactly as float32 tells are amplitudes; a square near 0 is not."""
    arrays = sample_arrays()
    patterns = (arrays["diff3d"] != 0).astype(np.float64)
    patterns[0, 0, :4] = small
    arrays["diff3d"] = patterns
    path = save_npz(tmp_path / "scan.npz", arrays)

    assert read_scan(path, domain="counts").domain == "counts"
    with pytest.raises(ScanFileError, match="values that could be either"):
        read_scan(path)


def test_no_evidence_is_an_error_that_names_the_way_out(tmp_path: Path) -> None:
    """Numbers that could be either are refused unless the caller says what they are."""
    arrays = sample_arrays()
    arrays["diff3d"] = arrays["diff3d"].astype(np.float64) * np.pi
    path = save_npz(tmp_path / "scan.npz", arrays)

    with pytest.raises(ScanFileError, match=r"measurement_domain: expected evidence.*domain= or --domain"):
        read_scan(path)

    assert read_scan(path, domain="amplitude").domain is MeasurementDomain.AMPLITUDE
    assert read_scan(path, domain=MeasurementDomain.COUNTS).metadata.extra["domain_evidence"] == "given by the caller"


def test_contradicting_evidence_is_an_error(tmp_path: Path) -> None:
    """A detector mask says counts, whole squares say amplitude: nobody guesses."""
    arrays = sample_arrays()
    arrays |= {"diff3d": _amplitude(arrays), "bad_pixels": np.zeros((8, 8), dtype=bool)}

    with pytest.raises(ScanFileError, match=r"squares are whole numbers \(amplitude\) but bad_pixels .*\(counts\)"):
        read_scan(save_npz(tmp_path / "scan.npz", arrays))


def test_a_stated_domain_needs_no_evidence(tmp_path: Path) -> None:
    """The file's own word is taken."""
    arrays = sample_arrays() | {"measurement_domain": np.array("amplitude")}

    assert read_scan(save_npz(tmp_path / "scan.npz", arrays)).domain is MeasurementDomain.AMPLITUDE


def test_a_domain_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    """The caller's argument is checked before the file is opened."""
    with pytest.raises(ConfigError, match="domain: expected counts or amplitude, found 'intensity'"):
        read_scan(tmp_path / "scan.npz", domain="intensity")


def test_what_is_written_can_be_read_by_others(tmp_path: Path) -> None:
    """The legacy keys hold columns and rows, and no key needs a pickle."""
    scan = read_scan(save_npz(tmp_path / "scan.npz", sample_arrays()))

    write_scan(scan, tmp_path / "copy.npz")

    with np.load(tmp_path / "copy.npz", allow_pickle=False) as file:
        assert np.array_equal(file["xcoords"], [10.0, 14.0, 18.0])
        assert np.array_equal(file["ycoords"], [20.0, 21.0, 25.5])
        assert str(file["measurement_domain"]) == "counts"
        assert json.loads(str(file["_metadata"]))["physics_parameters"] == {"N": 8}


def test_an_unwritable_place_leaves_the_old_file(tmp_path: Path) -> None:
    """A directory that is not there is an error of the file system, with nothing made."""
    scan = Scan(
        patterns=np.ones((1, 2, 2)),
        domain="counts",
        positions_px=[[0.0, 0.0]],
        probe=np.ones((2, 2)),
        metadata=ScanMetadata(name="one"),
    )

    with pytest.raises(OSError, match="nowhere"):
        write_scan(scan, tmp_path / "nowhere" / "scan.npz")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not SIEMENS.exists(), reason="the measured scan is not on this machine")
def test_the_measured_siemens_star_is_amplitude() -> None:
    """Real data without any statement are recognised by their whole squares."""
    scan = read_scan(SIEMENS)

    assert scan.domain is MeasurementDomain.AMPLITUDE
    assert scan.patterns.shape == (258, 128, 128)
    flux = float(np.sum(np.abs(scan.probe.astype(np.complex128)) ** 2))
    assert float(scan.counts().sum(dtype=np.float64)) / 258 == pytest.approx(flux, rel=0.01)
