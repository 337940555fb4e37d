"""4-D scans of electrons: EMD of every version, and EMPAD's raw files, to one scan."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

import beamline_samples as samples
from ptycho_adapters.cli import main
from ptycho_adapters.files import read_file_facts, read_scan
from ptycho_adapters.files.reading import ReadRequest
from ptycho_adapters.files.scans import read_requested
from ptycho_adapters.files.stated import Stated
from ptycho_core.errors import ScanFileError
from ptycho_core.measurement.geometry import wavelength_from_voltage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ptycho_core.measurement.scan import Scan

RASTER = (2, 3)
STEP_M = (4e-10, 5e-10)
PIXEL_M = 1.25e-11  # one over 16 pixels of 0.5 per Å
ANGLE_RAD = wavelength_from_voltage(voltage_v=3e5) / (samples.N * PIXEL_M)
POSITIONS_PX = [(row * STEP_M[0] / PIXEL_M, column * STEP_M[1] / PIXEL_M) for row in range(2) for column in range(3)]
KINDS = ("emdfile", "py4DSTEM 0.12", "py4DSTEM 0.13", "Berkeley", "angles")


def _vectors(group: h5py.Group, first: int, units: tuple[str, str], sizes: tuple[float, float, float]) -> None:
    """Two numbers an axis, as those programs write what is evenly spaced."""
    steps = (sizes[0], sizes[1], sizes[2], sizes[2])
    for axis, (step, unit) in enumerate(zip(steps, (units[0], units[0], units[1], units[1]), strict=True)):
        group[f"dim{first + axis}"] = np.array([0.0, step])
        group[f"dim{first + axis}"].attrs["units"] = unit


def save_emd(path: Path, kind: str) -> Path:
    """The experiment's frames in two rows of three, as a version of a program writes them."""
    counts = samples.experiment().counts.reshape(*RASTER, samples.N, samples.N)
    with h5py.File(path, "w") as file:
        if kind == "emdfile":
            group = file.create_group("datacube_root/datacube")
            group.attrs["emd_group_type"] = "array"
            group["data"] = counts
            _vectors(group, 0, ("nm", "A^-1"), (0.4, 0.5, 0.5))
        elif kind == "py4DSTEM 0.12":
            group = file.create_group("4DSTEM_experiment/data/datacubes/datacube_0")
            group["data"] = counts
            _vectors(group, 1, ("nm", "pixels"), (0.4, 0.5, 1.0))
            said = file.create_group("4DSTEM_experiment/metadata/metadata_0/calibration")
            said.attrs["Q_pixel_size"], said.attrs["Q_pixel_units"] = 0.5, np.bytes_("A^-1")
            file.create_group("4DSTEM_experiment/metadata/metadata_0/microscope").attrs["accelerating_voltage"] = 300
        elif kind == "py4DSTEM 0.13":
            group = file.create_group("experiment/datacube")
            group["data"] = counts
            _vectors(group, 0, ("Å", "pixels"), (4.0, 5.0, 1.0))
            said = file.create_group("experiment/_metadata/calibration")
            said["Q_pixel_size"], said["Q_pixel_units"] = 5.0, "nm^-1"
        elif kind == "Berkeley":
            group = file.create_group("data/stack")
            group.attrs["emd_group_type"] = 1
            group["data"] = counts
            _vectors(group, 1, ("[n_m]", "[1/n_m]"), (0.4, 0.5, 5.0))
        else:
            group = file.create_group("datacube_root/datacube")
            group["data"] = counts
            _vectors(group, 0, ("nm", "mrad"), (0.4, 0.5, 1e3 * ANGLE_RAD))
    return path


def _read(path: Path, **stated: object) -> Scan:
    # Any keyword of the record may be said.
    make: Callable[..., Stated] = Stated
    return read_requested(path, ReadRequest(probe=samples.the_probe, stated=make(**stated)))


@pytest.mark.parametrize("kind", KINDS)
def test_every_version_gives_the_same_scan(kind: str, tmp_path: Path) -> None:
    """Frames row by row, positions from the steps along rows and columns, the object pixel from the sampling."""
    path = save_emd(tmp_path / "scan.emd", kind)
    wavelength_m = wavelength_from_voltage(voltage_v=3e5)

    scan = _read(path, wavelength_m=wavelength_m)

    assert np.array_equal(scan.patterns, samples.experiment().counts)
    np.testing.assert_allclose(scan.positions_px, POSITIONS_PX, rtol=1e-9)
    assert scan.metadata.pixel_size_m == pytest.approx(PIXEL_M, rel=1e-9)
    assert scan.metadata.wavelength_m == wavelength_m
    facts = read_file_facts(path)
    assert (facts.title, facts.n_patterns, facts.frame) == ("EMD", 6, (samples.N, samples.N))


def test_a_voltage_in_the_file_counts_and_is_said(tmp_path: Path) -> None:
    """300 are kilovolts: the wavelength is that of electrons, and the note says what it was taken for."""
    scan = _read(save_emd(tmp_path / "scan.emd", "py4DSTEM 0.12"))

    assert scan.metadata.wavelength_m == pytest.approx(1.9687e-12, rel=1e-4)
    assert "accelerating_voltage of 300, taken for kV" in scan.metadata.extra["wavelength_evidence"]


def _uncalibrated(file: h5py.File) -> None:
    for axis in range(4):
        file[f"datacube_root/datacube/dim{axis}"].attrs["units"] = "pixels"


BAD: dict[str, tuple[str, Callable[[h5py.File], object], str]] = {
    "pixels": ("emdfile", _uncalibrated, r"positions: expected steps of the scan.*--step-m.*\n.*--pixel-m"),
    "an angle": ("angles", lambda _: None, r"wavelength: expected a wavelength, found a detector calibrated in mrad"),
    "oblong": (
        "emdfile",
        lambda file: file["datacube_root/datacube/dim3"].write_direct(np.array([0.0, 0.4])),
        r"calibration: expected square detector pixels, found 0.5 A\^-1 by 0.4",
    ),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
def test_what_is_missing_comes_with_its_flag(
    case: tuple[str, Callable[[h5py.File], object], str], tmp_path: Path
) -> None:
    """Nothing is made up: an axis that is counted in pixels has no length."""
    kind, change, message = case
    path = samples.changed(save_emd(tmp_path / "scan.emd", kind), change)

    with pytest.raises(ScanFileError, match=message.replace(r"\n", r"[\s\S]")):
        _read(path)


def test_flags_supply_steps_and_pixel(tmp_path: Path) -> None:
    """A file that was never calibrated is read with three flags."""
    path = samples.changed(save_emd(tmp_path / "scan.emd", "emdfile"), _uncalibrated)

    scan = _read(path, step_m=STEP_M, pixel_m=PIXEL_M)

    np.testing.assert_allclose(scan.positions_px, POSITIONS_PX, rtol=1e-9)


XML = """<?xml version="1.0"?>
<root name="made">
  <raw_file filename="C:\\data\\made.raw"/>
  <pix_x>4</pix_x><pix_y>4</pix_y>
  <scan_parameters mode="search"><scan_resolution_x>9</scan_resolution_x></scan_parameters>
  <scan_parameters mode="acquire">
    <scan_resolution_x>3</scan_resolution_x><scan_resolution_y>2</scan_resolution_y>
  </scan_parameters>
  <iom_measurements><source.get_voltage>300000.0</source.get_voltage>
    <calibrated_diffraction_angle>{angle!r}</calibrated_diffraction_angle></iom_measurements>
</root>
"""
WIDE = 128


def save_empad(folder: Path, *, xml: bool = True, places: bool = False) -> Path:
    """Six frames of 128 px with two more rows each, and the XML beside them; places of frames in the last row."""
    counts = np.zeros((6, 130, WIDE), dtype="<f4")
    counts[:, 56:72, 56:72] = samples.experiment().counts
    counts[:, WIDE:] = 1e6  # no light, whatever stands there
    if places:
        for number in range(6):
            counts[number, 129, 12:14] = (5 + number // 3, 7 + number % 3)
    counts.tofile(folder / "made.raw")
    if xml:
        (folder / "made.xml").write_text(XML.format(angle=wavelength_from_voltage(voltage_v=3e5) / (WIDE * PIXEL_M)))
    return folder / "made.raw"


@pytest.mark.parametrize("name", ["made.raw", "made.xml"])
def test_either_file_of_the_pair_is_the_scan(name: str, tmp_path: Path) -> None:
    """128 rows of 130, the raster of the acquisition, the pixel by angle and voltage; the step by its flag."""
    path = save_empad(tmp_path).with_name(name)

    scan = read_requested(path, ReadRequest(probe=lambda _: _probe(), stated=Stated(step_m=STEP_M)))

    assert scan.patterns.shape == (6, WIDE, WIDE)
    assert np.array_equal(scan.patterns[:, 56:72, 56:72], samples.experiment().counts)
    np.testing.assert_allclose(scan.positions_px, POSITIONS_PX, rtol=1e-6)
    assert scan.metadata.wavelength_m == pytest.approx(1.9687e-12, rel=1e-4)
    assert read_file_facts(path).title == "EMPAD"


NEW = """  <scan_parameters mode="search"><scan_resolution_x>64</scan_resolution_x>
    <scan_resolution_y>64</scan_resolution_y><scan_size>0.5</scan_size></scan_parameters>
  <scan_parameters mode="acquire"><scan_resolution_x>{side}</scan_resolution_x>
    <scan_resolution_y>{rows}</scan_resolution_y><scan_size>{part}</scan_size></scan_parameters>
  <iom_measurements><high_voltage>300000.0</high_voltage><full_scan_field_of_view><x>{field}</x><y>{field}</y>
    <scale_factor>0.72</scale_factor></full_scan_field_of_view></iom_measurements>"""
OLD = """<pix_x>{side}</pix_x><pix_y>{rows}</pix_y><scan_size>{part}</scan_size>
  <iom_measurements><source.get_voltage>300000.0</source.get_voltage>
    <optics.get_full_scan_field_of_view>[{field}, {field}]</optics.get_full_scan_field_of_view></iom_measurements>"""
FIELD_M = {NEW: 0.72 * 3 * 4e-10, OLD: 3 * 4e-10}  # three steps, in new files times a factor that they state


def save_field(folder: Path, text: str, rows: int = 3, part: float = 1.0) -> Path:
    """Rows of three frames, and what the XML says about the field of view."""
    save_empad(folder, xml=False)
    frames = np.fromfile(folder / "made.raw", "<f4").reshape(6, -1)
    np.concatenate([frames, frames])[: 3 * rows].tofile(folder / "made.raw")
    filled = text.format(side=3, rows=rows, part=part, field=repr(FIELD_M[text]))
    (folder / "made.xml").write_text(f'<?xml version="1.0"?><root><raw_file filename="made.raw"/>{filled}</root>')
    return folder / "made.raw"


@pytest.mark.parametrize("text", [NEW, OLD], ids=["new", "old"])
def test_the_field_of_view_of_a_whole_square_scan_gives_the_step(text: str, tmp_path: Path) -> None:
    """There all programs agree; the step and where it comes from are said, and a given one wins, said too."""
    path = save_field(tmp_path, text)

    def read(**stated: object) -> Scan:
        make: Callable[..., Stated] = Stated
        return read_requested(path, ReadRequest(probe=lambda _: _probe(), stated=make(pixel_m=PIXEL_M, **stated)))

    own, given = read(), read(step_m=STEP_M)
    assert own.metadata.wavelength_m == pytest.approx(1.9687e-12, rel=1e-4)
    np.testing.assert_allclose(own.positions_px[[1, 3]] * PIXEL_M, [(0.0, 4e-10), (4e-10, 0.0)], rtol=1e-9)
    assert "field of view" in own.metadata.extra["step_evidence"]
    np.testing.assert_allclose(given.positions_px[[1, 3]] * PIXEL_M, [(0.0, STEP_M[1]), (STEP_M[0], 0.0)], rtol=1e-9)
    assert "4e-10 m by the XML's field of view, and another was given" in given.metadata.extra["step_evidence"]


@pytest.mark.parametrize(
    ("text", "change", "found"),
    [
        (NEW, {"part": 0.6}, r"a part of 0.6 of a field of view.*2.4e-10 or 4e-10"),
        (OLD, {"part": 0.5}, r"a part of 0.5 of a field of view.*2e-10 or 4e-10"),
        (NEW, {"rows": 2}, r"2 by 3 places in a field of view"),
    ],
)
def test_a_step_that_programs_disagree_about_is_asked_for(
    text: str, change: dict[str, float], found: str, tmp_path: Path
) -> None:
    """Part of a field of view, or one that is not square, means different steps to different programs."""
    rows = int(change.get("rows", 3))
    path = save_field(tmp_path, text, rows=rows, part=change.get("part", 1.0))

    with pytest.raises(
        ScanFileError, match=f"positions: expected the step of the scan, found none that is certain: {found}.*--step-m"
    ):
        read_requested(path, ReadRequest(probe=lambda _: _probe(), stated=Stated(pixel_m=PIXEL_M)))


def test_a_preparation_says_which_step_it_took(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The XML's, with what it comes from, or the flag's instead of it; never the one with the words of the other."""
    path, out = save_field(tmp_path, NEW), tmp_path / "out.npz"
    flags = ["--size", "16", "--centre-y", "64", "--centre-x", "64", "--pixel-m", "1e-10", "--quiet"]

    assert main(["prepare", str(path), str(out), *flags]) == 0
    assert "a step of 4e-10 m by the XML's field of view" in capsys.readouterr().out
    np.testing.assert_allclose(read_scan(out, probe=samples.the_probe).positions_px[1], (0.0, 4.0), rtol=1e-6)
    assert main(["prepare", str(path), str(out), *flags, "--step-m", "5e-10"]) == 0
    assert "positions as given, instead of those of the file" in capsys.readouterr().out
    scan = read_scan(out, probe=samples.the_probe)
    np.testing.assert_allclose(scan.positions_px[1], (0.0, 5.0), rtol=1e-6)
    assert "step_evidence" not in scan.metadata.extra


def _probe() -> np.ndarray[tuple[int, ...], np.dtype[np.complex64]]:
    return np.pad(samples.experiment().probe[0], 56).astype(np.complex64)


def test_the_raster_is_flag_then_xml_then_frames(tmp_path: Path) -> None:
    """Without XML the places in the last rows tell; where nothing does, the flag is asked for and used."""
    path = save_empad(tmp_path, xml=False, places=True)
    lengths = {"wavelength_m": 1.9687e-12, "pixel_m": PIXEL_M, "step_m": STEP_M}

    def read(**stated: object) -> Scan:
        make: Callable[..., Stated] = Stated
        return read_requested(path, ReadRequest(probe=lambda _: _probe(), stated=make(**{**lengths, **stated})))

    np.testing.assert_allclose(read().positions_px, POSITIONS_PX, rtol=1e-6)
    save_empad(tmp_path, xml=False)
    with pytest.raises(ScanFileError, match="raster: expected rows and columns, found none in the file; give --raster"):
        read()
    assert read(raster=(3, 2)).positions_px[2].tolist() == pytest.approx([STEP_M[0] / PIXEL_M, 0.0])
    with pytest.raises(ScanFileError, match="found 4 positions for 6 patterns"):
        read(raster=(2, 2))


def test_a_raw_file_of_part_of_a_frame_is_none(tmp_path: Path) -> None:
    """A raw file has no other mark than its size; the XML of a raw file that is not there is no scan either."""
    path = save_empad(tmp_path)
    path.write_bytes(path.read_bytes()[:-4])

    for name in ("made.raw", "made.xml"):
        with pytest.raises(ScanFileError, match="expected a scan in"):
            read_scan(path.with_name(name))


def test_a_preparation_takes_electrons(tmp_path: Path) -> None:
    """EMPAD's frames are cut about the beam, and the object pixel follows."""
    path, out = save_empad(tmp_path), tmp_path / "out.npz"
    flags = ["--size", "16", "--centre-y", "64", "--centre-x", "64", "--step-m", "4e-10,5e-10", "--quiet"]

    assert main(["prepare", str(path), str(out), *flags]) == 0

    scan = read_scan(out, probe=samples.the_probe)
    assert np.array_equal(scan.patterns, samples.experiment().counts)
    assert scan.metadata.pixel_size_m == pytest.approx(8 * PIXEL_M, rel=1e-6)
    np.testing.assert_allclose(scan.positions_px * 8, POSITIONS_PX, rtol=1e-6)


def test_emdfile_s_own_file_is_read(tmp_path: Path) -> None:
    """Written by the library itself, where it is installed."""
    emdfile = pytest.importorskip("emdfile", reason="pip install emdfile")
    counts = samples.experiment().counts.reshape(*RASTER, samples.N, samples.N)
    units, steps = ["nm", "nm", "A^-1", "A^-1"], [0.4, 0.5, 0.5, 0.5]
    array = emdfile.Array(data=counts, name="datacube", units="counts", dims=steps, dim_units=units)
    emdfile.save(str(tmp_path / "own.h5"), array, mode="o")
    shutil.copy(tmp_path / "own.h5", tmp_path / "copy.emd")

    scan = _read(tmp_path / "copy.emd", wavelength_m=1.9687e-12)

    assert np.array_equal(scan.patterns, samples.experiment().counts)
    np.testing.assert_allclose(scan.positions_px, POSITIONS_PX, rtol=1e-9)
