"""Scans in the files of beamlines: CXI, fold_slice and PtyPy, from the published layout to the same scan."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import h5py
import numpy as np
import numpy.typing as npt
import pytest

import beamline_samples as samples
from beamline_samples import DETECTOR, SOURCE, TRANSLATION, changed, never_written, replace, save_one, the_probe
from ptycho_adapters.files import read_file_facts, read_scan
from ptycho_core.errors import ScanFileError
from ptycho_core.measurement.scan import MeasurementDomain

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["cxi", "fold_slice", "ptyd"])
def test_every_format_gives_the_same_scan(name: str, tmp_path: Path) -> None:
    """Counts are exact, positions and lengths agree to float64, whatever the format."""
    truth = samples.experiment()

    scan = read_scan(save_one(tmp_path, name), probe=None if name == "cxi" else the_probe)

    assert np.array_equal(scan.counts(), truth.counts)
    np.testing.assert_allclose(scan.positions_px, truth.positions_m / samples.PIXEL_M, rtol=1e-12)
    assert scan.metadata.pixel_size_m == pytest.approx(samples.PIXEL_M, rel=1e-12)
    assert scan.metadata.wavelength_m == pytest.approx(samples.WAVELENGTH_M, rel=1e-12)
    assert scan.domain is MeasurementDomain.COUNTS
    assert np.array_equal(scan.probe, truth.probe)
    if name != "fold_slice":
        assert scan.metadata.distance_m == samples.DISTANCE_M
        assert scan.bad_pixels is not None
        assert np.array_equal(scan.bad_pixels, truth.bad)


@pytest.mark.parametrize(("name", "title"), [("cxi", "CXI"), ("fold_slice", "PtychoShelves"), ("ptyd", "PtyPy")])
def test_facts_are_known_without_reading_patterns(name: str, title: str, tmp_path: Path) -> None:
    """Format, number and size of the patterns come from headers."""
    facts = read_file_facts(save_one(tmp_path, name))

    assert facts.title == title
    assert (facts.n_patterns, facts.frame) == (samples.N_PATTERNS, (samples.N, samples.N))


def test_the_facts_of_a_stack_larger_than_any_memory(tmp_path: Path) -> None:
    """A shape is read, never the stack: a terabyte that was never written is measured at once."""
    path = changed(samples.save_cxi(tmp_path / "scan.cxi"), never_written)

    facts = read_file_facts(path)

    assert (facts.n_patterns, facts.frame) == (10**6, (512, 512))
    assert facts.pattern_bytes == 4 * 10**6 * 512**2


@pytest.mark.parametrize("name", ["cxi", "fold_slice", "ptyd"])
def test_a_missing_probe_is_refused_with_the_way_out(name: str, tmp_path: Path) -> None:
    """Nothing is made up: the message names both ways to give a probe."""
    path = samples.save_cxi(tmp_path / "a.cxi", probe=False) if name == "cxi" else save_one(tmp_path, name)

    with pytest.raises(ScanFileError, match=r"probe: expected an illumination.*--probe FILE or --probe-model"):
        read_scan(path)


def test_cxi_data_at_the_detector_alone(tmp_path: Path) -> None:
    """Without links the detector's own path is read."""
    scan = read_scan(samples.save_cxi(tmp_path / "scan.cxi", linked=False))

    assert np.array_equal(scan.patterns, samples.experiment().counts)


@pytest.mark.parametrize(
    ("vectors", "signs"),
    [
        ([[0.0, -1e-4, 0.0], [-1e-4, 0.0, 0.0]], (1.0, 1.0)),
        ([[0.0, 1e-4, 0.0], [-1e-4, 0.0, 0.0]], (-1.0, 1.0)),
        (np.transpose([[0.0, -1e-4, 0.0], [1e-4, 0.0, 0.0]]), (1.0, -1.0)),
    ],
)
def test_cxi_basis_vectors_turn_the_positions(
    vectors: npt.ArrayLike, signs: tuple[float, float], tmp_path: Path
) -> None:
    """The beam moves against the sample, seen along the detector's rows and columns."""
    path = changed(
        samples.save_cxi(tmp_path / "scan.cxi"),
        lambda file: file.create_dataset(f"{DETECTOR}/basis_vectors", data=np.asarray(vectors)),
    )

    expected = samples.experiment().positions_m / samples.PIXEL_M * signs
    np.testing.assert_allclose(read_scan(path).positions_px, expected, rtol=1e-12)


def test_cxi_translations_may_lie_on_their_side(tmp_path: Path) -> None:
    """(3, n) is taken for what it can only be."""
    path = changed(
        samples.save_cxi(tmp_path / "scan.cxi"),
        lambda file: replace(file, TRANSLATION, samples.translation(samples.experiment()).T),
    )

    np.testing.assert_allclose(read_scan(path).positions_px, samples.experiment().positions_m / samples.PIXEL_M)


def test_cxi_light_in_the_corner_is_moved_and_reported(tmp_path: Path) -> None:
    """Data as a Fourier transform leaves them are found by their light; the mask moves along."""
    truth = samples.experiment()

    def wrap(file: h5py.File) -> None:
        replace(file, f"{DETECTOR}/data", np.fft.ifftshift(truth.counts, axes=(1, 2)))
        replace(file, f"{DETECTOR}/mask", np.fft.ifftshift(truth.bad).astype(np.uint32))

    scan = read_scan(changed(samples.save_cxi(tmp_path / "scan.cxi"), wrap))

    assert np.array_equal(scan.patterns, truth.counts)
    assert scan.bad_pixels is not None
    assert np.array_equal(scan.bad_pixels, truth.bad)
    assert "moved from the corner to the middle" in scan.metadata.extra["centre_evidence"]


def test_light_that_is_nowhere_in_particular_is_left_and_reported(tmp_path: Path) -> None:
    """Evenly spread light does not say where zero frequency is."""
    flat = np.random.default_rng(1).integers(5, 9, (samples.N_PATTERNS, samples.N, samples.N), dtype=np.uint16)
    path = changed(samples.save_cxi(tmp_path / "a.cxi"), lambda file: replace(file, f"{DETECTOR}/data", flat))

    scan = read_scan(path)

    assert np.array_equal(scan.patterns, flat)
    assert "taken for the middle" in scan.metadata.extra["centre_evidence"]


def test_ptyd_weights_that_differ_between_frames(tmp_path: Path) -> None:
    """A pixel without weight in one frame is bad in all, and that is said."""
    path = samples.save_ptyd(tmp_path / "scan.ptyd")

    def mask_one(file: h5py.File) -> None:
        weights = file["chunks/1/weights"][()]
        weights[1, 0, 0] = False
        replace(file, "chunks/1/weights", weights)

    scan = read_scan(changed(path, mask_one), probe=the_probe)

    assert scan.bad_pixels is not None
    assert scan.bad_pixels[0, 0]
    assert scan.bad_pixels.sum() == 2
    assert "differ between frames" in scan.metadata.extra["mask_evidence"]


def test_ptyd_chunks_are_read_by_number(tmp_path: Path) -> None:
    """Ten comes after two."""

    def renumber(file: h5py.File) -> None:
        file.move("chunks/1", "chunks/10")
        file.move("chunks/0", "chunks/2")

    scan = read_scan(changed(samples.save_ptyd(tmp_path / "scan.ptyd"), renumber), probe=the_probe)

    assert np.array_equal(scan.patterns, samples.experiment().counts)


def test_fold_slice_in_one_file(tmp_path: Path) -> None:
    """A file with patterns and positions needs no other, whatever its name."""
    data = samples.save_fold_slice(tmp_path)
    with h5py.File(tmp_path / "data_roi0_para.hdf5", "r") as parameters, h5py.File(data, "r+") as file:
        for key in ("ppX", "ppY", "dx", "lambda"):
            parameters.copy(key, file)

    scan = read_scan(data.rename(tmp_path / "all.h5"), probe=the_probe)

    np.testing.assert_allclose(scan.positions_px, samples.experiment().positions_m / samples.PIXEL_M)


def test_fold_slice_is_read_from_either_file(tmp_path: Path) -> None:
    """The names pair the two files; other names need the second one to be given."""
    data = samples.save_fold_slice(tmp_path)
    parameters = tmp_path / "data_roi0_para.hdf5"

    assert read_scan(parameters, probe=the_probe).n_patterns == samples.N_PATTERNS
    renamed = parameters.rename(tmp_path / "positions.hdf5")
    with pytest.raises(ScanFileError, match=r"expected data_roi0_para.hdf5 beside it, found no such file"):
        read_scan(data, probe=the_probe)
    scan = read_scan(data, probe=the_probe, product=renamed)
    assert scan.metadata.extra["tomography_angle_deg"] == "12.5"


@pytest.mark.parametrize("distance", [-samples.DISTANCE_M, None])
def test_cxi_distances_of_other_kinds(distance: float | None, tmp_path: Path) -> None:
    """A distance counted along -z is one all the same, and without any the detector's corner has it, with a note."""

    def move(file: h5py.File) -> None:
        del file[f"{DETECTOR}/distance"]
        if distance is None:
            file[f"{DETECTOR}/corner_position"] = np.array([1e-3, 2e-3, samples.DISTANCE_M])
        else:
            file[f"{DETECTOR}/distance"] = distance

    scan = read_scan(changed(samples.save_cxi(tmp_path / "scan.cxi"), move))

    assert scan.metadata.distance_m == samples.DISTANCE_M
    assert ("distance_evidence" in scan.metadata.extra) == (distance is None)


@pytest.mark.parametrize(
    ("energy_j", "stated_m", "wavelength_m", "note"),
    [
        (None, 2e-10, 2e-10, None),
        (8000 * samples.JOULE_PER_EV, 2e-10, samples.WAVELENGTH_M, "the energy; the file also states 2e-10 m"),
        (8000.0, 2e-10, 2e-10, "the stated one; an energy of 8000 is not in joules"),
    ],
)
def test_cxi_wavelength_beside_the_energy(
    energy_j: float | None, stated_m: float, wavelength_m: float, note: str | None, tmp_path: Path
) -> None:
    """The energy counts where it is one; a wavelength takes its place, and every contradiction is noted."""

    def state(file: h5py.File) -> None:
        del file[f"{SOURCE}/energy"]
        if energy_j is not None:
            file[f"{SOURCE}/energy"] = energy_j
        file[f"{SOURCE}/wavelength"] = stated_m

    scan = read_scan(changed(samples.save_cxi(tmp_path / "scan.cxi"), state))

    assert scan.metadata.wavelength_m == pytest.approx(wavelength_m, rel=1e-9)
    assert scan.metadata.extra.get("wavelength_evidence") == note


def test_a_cxi_mask_for_every_frame(tmp_path: Path) -> None:
    """A pixel that is bad in one frame is bad in all."""
    masks = np.zeros((samples.N_PATTERNS, samples.N, samples.N), dtype=np.uint32)
    masks[0, 1, 2] = masks[3, 4, 5] = 1
    path = changed(samples.save_cxi(tmp_path / "a.cxi"), lambda file: replace(file, f"{DETECTOR}/mask", masks))

    scan = read_scan(path)

    assert scan.bad_pixels is not None
    assert np.argwhere(scan.bad_pixels).tolist() == [[1, 2], [4, 5]]


def test_ptyd_weights_common_to_all_frames(tmp_path: Path) -> None:
    """Older files keep one frame of weights beside the chunks."""

    def move(file: h5py.File) -> None:
        for number in "01":
            replace(file, f"chunks/{number}/weights", np.zeros(0))
        file["meta/weight2d"] = ~samples.experiment().bad

    scan = read_scan(changed(samples.save_ptyd(tmp_path / "scan.ptyd"), move), probe=the_probe)

    assert scan.bad_pixels is not None
    assert np.array_equal(scan.bad_pixels, samples.experiment().bad)
    assert "mask_evidence" not in scan.metadata.extra


def test_a_ptyd_centre_off_the_middle_is_noted(tmp_path: Path) -> None:
    """What the file says about zero frequency is kept where it is not the middle."""
    path = samples.save_ptyd(tmp_path / "scan.ptyd")
    assert "centre_evidence" not in read_scan(path, probe=the_probe).metadata.extra

    scan = read_scan(changed(path, lambda file: replace(file, "meta/center", np.array([8.0, 11.5]))), probe=the_probe)

    assert scan.metadata.extra["centre_evidence"] == "the file has zero frequency at 8, 11.5: not 8"


def test_compressed_data_are_read_with_the_decoders_installed(tmp_path: Path) -> None:
    """Bitshuffle and LZ4, as detectors write them, are decoded by hdf5plugin, which loads when it is needed."""
    plugin = pytest.importorskip("hdf5plugin")

    def compress(file: h5py.File) -> None:
        counts = file[f"{DETECTOR}/data"][()]
        del file[f"{DETECTOR}/data"]
        file.create_dataset(f"{DETECTOR}/data", data=counts, chunks=(1, 16, 16), **plugin.Bitshuffle(cname="lz4"))

    scan = read_scan(changed(samples.save_cxi(tmp_path / "scan.cxi"), compress))

    assert np.array_equal(scan.patterns, samples.experiment().counts)


@pytest.mark.parametrize(("loads", "ending"), [(True, "6 patterns"), (False, "pip install hdf5plugin")])
def test_decoders_load_when_needed_and_are_named_when_missing(loads: bool, ending: str, tmp_path: Path) -> None:
    """A fresh process reads compressed data without importing anything first, or says what to install."""
    plugin = pytest.importorskip("hdf5plugin")
    path = samples.save_cxi(tmp_path / "scan.cxi")
    with h5py.File(path, "r+") as file:
        counts = file[f"{DETECTOR}/data"][()]
        del file[f"{DETECTOR}/data"]
        file.create_dataset(f"{DETECTOR}/data", data=counts, chunks=(1, 16, 16), **plugin.LZ4())
    code = (
        "import sys\n"
        "if sys.argv[2] == 'missing': sys.modules['hdf5plugin'] = None\n"
        "from ptycho_adapters.files import read_scan\n"
        "from ptycho_core.errors import ScanFileError\n"
        "try: print(read_scan(sys.argv[1]).n_patterns, 'patterns')\n"
        "except ScanFileError as error: print(error)\n"
    )

    run = subprocess.run(
        [sys.executable, "-c", code, str(path), "there" if loads else "missing"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert run.stdout.strip().endswith(ending)


def test_a_second_file_is_refused_where_there_is_no_use_for_it(tmp_path: Path) -> None:
    """PtyPy's files hold everything but the probe."""
    path = samples.save_ptyd(tmp_path / "scan.ptyd")

    with pytest.raises(ScanFileError, match="no second file: PtyPy holds everything"):
        read_scan(path, product=path)


def test_cxi_in_two_files(tmp_path: Path) -> None:
    """Patterns in one file, translations, energy and probe in a product beside it."""
    truth = samples.experiment()
    whole = samples.save_cxi(tmp_path / "product.cxi")
    data = tmp_path / "diffraction.cxi"
    with h5py.File(whole, "r+") as product, h5py.File(data, "w") as file:
        product.copy(DETECTOR, file, name=DETECTOR)
        for key in (f"{DETECTOR}/data", f"{DETECTOR}/mask", f"{DETECTOR}/x_pixel_size", "entry_1/data_1/data"):
            del product[key]

    scan = read_scan(data, product=whole)

    assert np.array_equal(scan.patterns, truth.counts)
    assert np.array_equal(scan.probe, truth.probe)
    np.testing.assert_allclose(scan.positions_px, truth.positions_m / samples.PIXEL_M)
    with pytest.raises(ScanFileError, match="translation: expected translations"):
        read_scan(data)
