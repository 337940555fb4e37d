"""Probes from other files and from the optics, in Python and on the command line."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import attrs
import h5py
import numpy as np
import numpy.typing as npt
import pytest

import beamline_samples as samples
from ptycho_adapters.command_line.probe_options import probe_source, read_model
from ptycho_adapters.command_line.usage import UsageError
from ptycho_adapters.files import ProbeSetting, probe_from_file, probe_from_model, read_scan
from ptycho_adapters.files.images.complex_tiff import TiffLayout, write_complex_tiff
from ptycho_core.errors import ScanFileError
from ptycho_core.physics.optics import far_field
from ptycho_core.physics.probe_models import FocusedRectangle, GaussianBeam, ZonePlate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROBE = samples.experiment().probe
SETTING = ProbeSetting(
    size_px=samples.N,
    photons=float(np.sum(np.abs(PROBE) ** 2)),
    pixel_m=samples.PIXEL_M,
    wavelength_m=samples.WAVELENGTH_M,
)


def _hdf5(key: str, value: npt.NDArray[np.generic]) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        with h5py.File(path, "w") as file:
            file[key] = value

    return save


def _npy(array: npt.NDArray[np.generic], *, cut: int | None = None) -> Callable[[Path], object]:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return lambda path: path.write_bytes(buffer.getvalue()[:cut])


def _npz(**arrays: npt.NDArray[np.generic]) -> Callable[[Path], object]:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return lambda path: path.write_bytes(buffer.getvalue())


def _tiff(layout: TiffLayout) -> Callable[[Path], object]:
    def save(path: Path) -> None:
        write_complex_tiff(PROBE, path, layout=layout)

    return save


def _matlab(path: Path) -> None:
    """As MATLAB 7.3 writes it: real and imag in a record, the axes the other way round."""
    turned = np.transpose(PROBE, (0, 2, 1))
    record = np.empty(turned.shape, dtype=[("real", "<f8"), ("imag", "<f8")])
    record["real"], record["imag"] = turned.real, turned.imag
    _hdf5("probe", record)(path)


def _matlab_wrapped(path: Path) -> None:
    _matlab(path.with_suffix(".plain"))
    with h5py.File(path.with_suffix(".plain")) as plain, h5py.File(path, "w", userblock_size=512) as file:
        plain.copy("probe", file)


SAVED: dict[str, Callable[[Path], object]] = {
    "product HDF5": _hdf5("probe", PROBE[np.newaxis]),
    "CXI image": _hdf5("entry_1/image_1/data", PROBE),
    "CXI illumination": _hdf5("entry_1/instrument_1/source_1/illumination", PROBE[0]),
    "PtyPy result": _hdf5("content/probe/Sscan00G00/data", PROBE),
    "PtyLab result": _hdf5("probe", PROBE[np.newaxis, np.newaxis, :, np.newaxis]),
    "MATLAB 7.3": _matlab,
    "MATLAB 7.3 behind its user block": _matlab_wrapped,
    "npy": _npy(PROBE[0]),
    "NPZ scan": _npz(probeGuess=PROBE),
    "product NPZ": _npz(probe=PROBE[np.newaxis]),
    "complex TIFF": _tiff(TiffLayout.COMPLEX),
    "two-page TIFF": _tiff(TiffLayout.REAL_IMAGINARY),
}


@pytest.mark.parametrize("save", SAVED.values(), ids=SAVED.keys())
def test_a_probe_is_read_from_any_file(save: Callable[[Path], object], tmp_path: Path) -> None:
    """Whatever program wrote it, the numbers arrive as (modes, N, N), by content, not by name."""
    save(tmp_path / "probe.dat")

    assert np.array_equal(probe_from_file(tmp_path / "probe.dat")(SETTING).reshape(PROBE.shape), PROBE)


def test_modes_may_come_last(tmp_path: Path) -> None:
    """(N, N, modes) is turned to (modes, N, N)."""
    modes = np.stack([PROBE[0], 0.1 * PROBE[0]])
    np.save(tmp_path / "probe.npy", np.moveaxis(modes, 0, 2))

    assert np.array_equal(probe_from_file(tmp_path / "probe.npy")(SETTING), modes)


NO_PROBES: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "found an empty file"),
    "text": (lambda path: path.write_text("hello"), "found a file starting b'hello'"),
    "folder": (lambda path: path.mkdir(), "file: expected a readable file"),
    "HDF5 without": (_hdf5("object", PROBE), "probe: expected an illumination under probe.*found only object"),
    "NPZ without": (_npz(object=PROBE), "found only object"),
    "several coherent modes": (_hdf5("probe", np.stack([PROBE, PROBE])), r"found shape \(2, 1, 16, 16\)"),
    "cut npy": (_npy(PROBE, cut=900), r"file: expected 2048 bytes of numbers"),
    "text array": (_npy(np.array(["a", "b"])), "expected .*N, N.* complex"),
    "pickle": (_npy(np.array([{}])), "file: expected .* bytes of numbers"),
}


@pytest.mark.parametrize("case", NO_PROBES.values(), ids=NO_PROBES.keys())
def test_a_file_without_a_probe_is_refused(case: tuple[Callable[[Path], object], str], tmp_path: Path) -> None:
    """What is there instead is named."""
    save, message = case
    save(tmp_path / "probe.dat")

    with pytest.raises(ScanFileError, match=message):
        probe_from_file(tmp_path / "probe.dat")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """No file, no probe."""
    with pytest.raises(FileNotFoundError, match="Probe file not found"):
        probe_from_file(tmp_path / "nothing.h5")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (attrs.evolve(SETTING, size_px=32), "probe: expected 32×32 px, as the patterns, found 16×16"),
        (
            attrs.evolve(SETTING, pixel_m=2e-9),
            "probe: expected pixels of 2e-09 m, as the scan's, found pixels of 1e-09 m",
        ),
    ],
)
def test_a_probe_of_other_patterns_is_refused(setting: ProbeSetting, message: str, tmp_path: Path) -> None:
    """Size and pixel have to be the scan's; nothing is resampled."""
    with h5py.File(tmp_path / "product.h5", "w") as file:
        file["probe"] = PROBE
        file["probe"].attrs["pixel_width_m"] = 1e-9

    with pytest.raises(ScanFileError, match=message):
        probe_from_file(tmp_path / "product.h5")(setting)


@pytest.mark.parametrize(("factor", "scaled"), [(0.2, False), (3.0, False), (1e-4, True), (256.0, True)])
def test_a_probe_that_is_not_in_photons_is_scaled_aloud(factor: float, scaled: bool, tmp_path: Path) -> None:
    """Within a factor of ten the file's photons stand; beyond it the patterns' are taken, with a warning."""
    np.save(tmp_path / "probe.npy", PROBE * np.sqrt(factor))
    source = probe_from_file(tmp_path / "probe.npy")

    if scaled:
        with pytest.warns(UserWarning, match="it was scaled to them"):
            probe = source(SETTING)
    else:
        probe = source(SETTING)

    flux = float(np.sum(np.abs(probe) ** 2))
    assert flux == pytest.approx(SETTING.photons * (1.0 if scaled else factor), rel=1e-5)


@pytest.mark.parametrize("unit", [1e25, 1e-25])
def test_a_probe_in_any_unit_is_scaled(unit: float, tmp_path: Path) -> None:
    """Numbers whose squares single precision does not hold are numbers all the same."""
    np.save(tmp_path / "probe.npy", PROBE * unit)

    with pytest.warns(UserWarning, match="it was scaled to them"):
        probe = probe_from_file(tmp_path / "probe.npy")(SETTING)

    np.testing.assert_allclose(probe, PROBE, rtol=1e-5, atol=1e-5 * float(np.abs(PROBE).max()))


@pytest.mark.parametrize("layout", ["pairs of MATLAB", "npy"])
def test_a_probe_of_numbers_that_are_too_large_is_refused(layout: str, tmp_path: Path) -> None:
    """A number that single precision does not hold is no light, whoever wrote it."""
    huge = np.full((16, 16), 1e39)
    if layout == "npy":
        np.save(tmp_path / "probe.dat.npy", huge.astype(np.complex128))
    else:
        record = np.zeros(huge.shape, dtype=[("real", "<f8"), ("imag", "<f8")])
        record["real"] = huge
        _hdf5("probe", record)(tmp_path / "probe.dat.npy")

    with pytest.raises(ScanFileError, match="probe: expected finite numbers with light in them"):
        probe_from_file(tmp_path / "probe.dat.npy")(SETTING)


def test_a_model_makes_the_probe_of_a_scan(tmp_path: Path) -> None:
    """A CXI file without a probe becomes a scan with one of the optics, carrying the photons of the patterns."""
    beam = GaussianBeam(fwhm_m=4 * samples.PIXEL_M)

    scan = read_scan(samples.save_cxi(tmp_path / "scan.cxi", probe=False), probe=probe_from_model(beam))

    photons = float(np.sum(np.abs(scan.probe.astype(np.complex128)) ** 2))
    assert photons == pytest.approx(float(scan.counts().sum(dtype=np.float64)) / scan.n_patterns, rel=1e-5)
    assert scan.metadata.extra["probe_evidence"] == "given by the caller"
    # A Gaussian of width w has a far field of width proportional to 1/w: light in the middle of the detector.
    assert int(np.argmax(np.abs(far_field(scan.probe[0])))) == 8 * 16 + 8


def test_a_given_probe_comes_before_the_file_s(tmp_path: Path) -> None:
    """What the caller says counts, and the metadata say that the file had another."""
    np.save(tmp_path / "probe.npy", 2 * PROBE)

    with pytest.warns(UserWarning, match="scaled"):
        scan = read_scan(samples.save_cxi(tmp_path / "a.cxi"), probe=probe_from_file(tmp_path / "probe.npy"))

    assert np.corrcoef(np.abs(scan.probe[0]).ravel(), np.abs(PROBE[0]).ravel())[0, 1] == pytest.approx(1.0)
    assert "given by the caller" in scan.metadata.extra["probe_evidence"]


def test_a_model_needs_the_geometry() -> None:
    """Without pixel and wavelength there is nothing to compute a beam on."""
    with pytest.raises(ScanFileError, match="no pixel_m and no wavelength_m in the file"):
        probe_from_model(GaussianBeam(fwhm_m=1e-6))(ProbeSetting(size_px=16, photons=1.0))


def test_a_beam_that_does_not_fit_is_a_scan_file_error() -> None:
    """What the model says about a frame comes out of reading."""
    with pytest.raises(ScanFileError, match="fwhm_m, defocus_m: expected a beam within half the frame"):
        probe_from_model(GaussianBeam(fwhm_m=1e-3))(SETTING)


@pytest.mark.parametrize(
    ("text", "model"),
    [
        (
            "zone-plate,outermost-zone-m=50e-9,diameter-m=160e-6,stop-m=60e-6,defocus-m=-6e-4",
            ZonePlate(outermost_zone_m=50e-9, diameter_m=160e-6, stop_m=60e-6, defocus_m=-6e-4),
        ),
        ("gaussian, fwhm-m = 2e-6", GaussianBeam(fwhm_m=2e-6)),
        (
            "rectangle,width-m=1e-4,height_m=2e-4,focal-length-m=0.1,defocus-m=0",
            FocusedRectangle(width_m=1e-4, height_m=2e-4, focal_length_m=0.1),
        ),
    ],
)
def test_models_are_typed_by_name_and_lengths(text: str, model: object) -> None:
    """What is typed is the record of the model."""
    assert read_model(text) == model


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lens", "expected zone-plate or gaussian or rectangle or stem, found 'lens'"),
        ("stem,semi-angle-rad=wide", "semi-angle-rad: expected a number of radians, found 'wide'"),
        ("gaussian", "gaussian needs fwhm-m"),
        ("gaussian,fwhm=1", "'fwhm' cannot be given here; did you mean fwhm-m?"),
        ("gaussian,fwhm-m=1,fwhm-m=2", "'fwhm-m' cannot be given here"),
        ("gaussian,fwhm-m=wide", "fwhm-m: expected a number of metres, found 'wide'"),
    ],
)
def test_a_model_that_cannot_be_understood(text: str, message: str) -> None:
    """The message says what would be right."""
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        read_model(text)


def test_two_probes_are_one_too_many(tmp_path: Path) -> None:
    """The two flags exclude each other, and neither gives none."""
    with pytest.raises(UsageError, match="only one can be the probe"):
        probe_source({"probe": str(tmp_path / "a.npy"), "probe_model": "gaussian,fwhm-m=1e-6"})

    assert probe_source({}) is None
