"""NeXus files: rasters and stacks, whichever way their groups say what is what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

import beamline_samples as samples
from beamline_samples import DETECTOR, changed, replace, save_cxi, the_probe
from ptycho_adapters.files import read_file_facts, read_scan
from ptycho_core.errors import ScanFileError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ptycho_core.measurement.scan import Scan

RASTER = (2, 3)
ROWS_M, COLUMNS_M = np.array([0.0, 3e-6]), np.array([1e-6, 3e-6, 6e-6])
POSITIONS_M = np.stack([np.repeat(ROWS_M, 3), np.tile(COLUMNS_M, 2)], axis=1)
COUNTS = samples.experiment().counts.reshape(*RASTER, samples.N, samples.N)


def _quantity(group: h5py.Group, name: str, value: object, unit: str) -> None:
    group[name] = value
    group[name].attrs["units"] = unit


def _instrument(entry: h5py.Group) -> h5py.Group:
    """Lengths in the units of a beamline; the source has the energy of its ring."""
    instrument = entry.create_group("instrument")
    _quantity(instrument, "source/energy", 3.0, "GeV")
    _quantity(instrument, "monochromator/energy", samples.ENERGY_EV / 1e3, "keV")
    detector = instrument.create_group("detector")
    detector.attrs["NX_class"] = "NXdetector"
    _quantity(detector, "distance", 1e3 * samples.DISTANCE_M, "mm")
    for axis in "xy":
        _quantity(detector, f"{axis}_pixel_size", 1e6 * samples.DETECTOR_PIXEL_M, "um")
    detector["pixel_mask"] = samples.experiment().bad.astype(np.uint32)
    return detector


def save_nexus(path: Path, name_axes: Callable[[h5py.Group, h5py.Dataset], None], *, x_is_slow: bool = False) -> Path:
    """The experiment's frames as a raster of two rows and three columns, axes as vectors in micrometres."""
    with h5py.File(path, "w") as file:
        file.attrs["default"] = "scan"
        entry = file.create_group("scan")
        entry.attrs["NX_class"], entry.attrs["default"] = "NXentry", "plot"
        detector = _instrument(entry)
        detector["data"] = COUNTS.swapaxes(0, 1) if x_is_slow else COUNTS
        plot = entry.create_group("plot")
        plot.attrs["NX_class"] = "NXdata"
        plot["data"] = h5py.SoftLink("/scan/instrument/detector/data")
        _quantity(plot, "stage_y", 1e6 * ROWS_M, "um")
        _quantity(plot, "stage_x", 1e6 * COLUMNS_M, "um")
        name_axes(plot, detector["data"])
    return path


def _list(plot: h5py.Group, _: h5py.Dataset) -> None:
    plot.attrs["signal"], plot.attrs["axes"] = "data", ["stage_y", "stage_x", ".", "."]


def _fixed_texts(plot: h5py.Group, _: h5py.Dataset) -> None:
    plot.attrs["signal"], plot.attrs["axes"] = np.bytes_("data"), np.array([b"stage_y", b"stage_x", b".", b"."])


def _one_text(plot: h5py.Group, _: h5py.Dataset) -> None:
    plot.attrs["signal"], plot.attrs["axes"] = "data", "stage_y:stage_x"


def _older(_: h5py.Group, data: h5py.Dataset) -> None:
    data.attrs["signal"], data.attrs["axes"] = 1, "stage_y:stage_x"


def _names_alone(plot: h5py.Group, _: h5py.Dataset) -> None:
    plot.attrs["signal"] = "data"


def _x_first(plot: h5py.Group, _: h5py.Dataset) -> None:
    plot.attrs["signal"], plot.attrs["axes"] = "data", ["stage_x", "stage_y", ".", "."]


def _is_the_experiment(scan: Scan, *, transposed: bool = False) -> None:
    """Frames, positions, lengths and mask are those that were written."""
    order = np.arange(6).reshape(RASTER).T.ravel() if transposed else np.arange(6)
    assert np.array_equal(scan.patterns, samples.experiment().counts[order])
    np.testing.assert_allclose(scan.positions_px, POSITIONS_M[order] / samples.PIXEL_M, rtol=1e-9)
    assert scan.metadata.wavelength_m == pytest.approx(samples.WAVELENGTH_M, rel=1e-9)
    assert scan.metadata.distance_m == pytest.approx(samples.DISTANCE_M)
    assert scan.bad_pixels is not None
    assert np.array_equal(scan.bad_pixels, samples.experiment().bad)


@pytest.mark.parametrize("name_axes", [_list, _fixed_texts, _one_text, _older, _names_alone])
def test_vectors_span_the_raster(name_axes: Callable[[h5py.Group, h5py.Dataset], None], tmp_path: Path) -> None:
    """Every row at every column, however the axes are named; the energy is never the ring's."""
    path = save_nexus(tmp_path / "scan.nxs", name_axes)

    _is_the_experiment(read_scan(path, probe=the_probe))
    facts = read_file_facts(path)
    assert (facts.title, facts.n_patterns, facts.frame) == ("NeXus", 6, (samples.N, samples.N))


def test_x_may_be_the_slow_axis(tmp_path: Path) -> None:
    """What is called x is x, and goes with the columns, whichever axis of the raster it is."""
    scan = read_scan(save_nexus(tmp_path / "scan.nxs", _x_first, x_is_slow=True), probe=the_probe)

    _is_the_experiment(scan, transposed=True)


def test_a_raster_larger_than_the_memory(tmp_path: Path) -> None:
    """It is gone through row by row into the map, and is the same scan."""
    path = save_nexus(tmp_path / "scan.nxs", _list)

    _is_the_experiment(read_scan(path, probe=the_probe, memory_map=tmp_path))


def _of_motors(file: h5py.File, unit: str | None) -> None:
    entry = file.create_group("entry")
    _instrument(entry)["data"] = samples.experiment().counts
    for name, values in (("sample/x", POSITIONS_M[:, 1]), ("sample/y", POSITIONS_M[:, 0])):
        entry[name] = 1e6 * values
        if unit is not None:
            entry[name].attrs["units"] = unit
    entry["sample/intensity"], entry["sample/flux"] = np.ones(6), np.ones(6)


def test_motors_with_units_place_a_stack(tmp_path: Path) -> None:
    """A number for each frame; a flux or an intensity is no coordinate, whatever letter it ends with."""
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        _of_motors(file, "um")

    scan = read_scan(tmp_path / "scan.h5", probe=the_probe)

    _is_the_experiment(scan)
    assert "y by entry/sample/y, x by entry/sample/x" in scan.metadata.extra["positions_evidence"]


def test_motors_without_units_are_no_positions(tmp_path: Path) -> None:
    """Nobody called them axes, and their numbers may be anything: the flags are named instead."""
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        _of_motors(file, None)

    with pytest.raises(ScanFileError, match=r"positions: expected axes of the scan.*--positions FILE --columns X,Y"):
        read_scan(tmp_path / "scan.h5", probe=the_probe)


def _without_unit(file: h5py.File, value: float) -> None:
    replace(file, "scan/instrument/monochromator/energy", value)


@pytest.mark.parametrize(("value", "unit"), [(8.0, "keV"), (8000.0, "eV")])
def test_an_energy_without_a_unit_is_said(value: float, unit: str, tmp_path: Path) -> None:
    """What it was taken for stands in the notes."""
    path = changed(save_nexus(tmp_path / "scan.nxs", _list), lambda file: _without_unit(file, value))

    scan = read_scan(path, probe=the_probe)

    assert scan.metadata.wavelength_m == pytest.approx(samples.WAVELENGTH_M, rel=1e-9)
    assert scan.metadata.extra["wavelength_evidence"].endswith(f"was taken for {unit}")


BAD: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    "an energy that is none": (lambda file: _without_unit(file, 1e9), r"a photon energy from 10 to 1e\+06 eV"),
    "a unit of another kind": (
        lambda file: file["scan/plot/stage_x"].attrs.__setitem__("units", "keV"),
        r"stage_x@units: expected a unit that m can be made of",
    ),
    "dark frames": (
        lambda file: file.create_dataset("scan/instrument/detector/dark", data=np.ones((samples.N, samples.N))),
        r"dark: expected frames alone, found dark frames beside them; take them off with ptycho prepare",
    ),
    "no instrument": (
        lambda file: file.__delitem__("scan/instrument/monochromator"),
        "no wavelength; give --energy-ev",
    ),
    "no axes": (lambda file: file.__delitem__("scan/plot/stage_x"), "positions: expected axes of the scan"),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
def test_what_cannot_be_used_is_named(case: tuple[Callable[[h5py.File], object], str], tmp_path: Path) -> None:
    """With the path in the file, what was expected and the way out."""
    change, message = case

    with pytest.raises(ScanFileError, match=message):
        read_scan(changed(save_nexus(tmp_path / "scan.nxs", _list), change), probe=the_probe)


def test_everything_that_is_missing_is_named_at_once(tmp_path: Path) -> None:
    """Positions, lengths and probe, each with its flags, in one message."""
    with h5py.File(tmp_path / "bare.nxs", "w") as file:
        file["entry/data/data"] = COUNTS

    with pytest.raises(ScanFileError) as caught:
        read_scan(tmp_path / "bare.nxs")

    text = str(caught.value)
    for flag in ("--positions", "--step-m", "--energy-ev", "--distance-m", "--detector-pixel-m", "--probe-model"):
        assert flag in text


def test_a_detector_s_master_file_is_a_stack(tmp_path: Path) -> None:
    """Numbered stacks behind external links continue each other."""
    counts = samples.experiment().counts
    for number, part in enumerate((counts[:4], counts[4:]), start=1):
        with h5py.File(tmp_path / f"data_{number}.h5", "w") as file:
            file["entry/data/data"] = part
    with h5py.File(tmp_path / "master.h5", "w") as file:
        _of_motors(file, "um")
        del file["entry/instrument/detector/data"]
        for number in (1, 2):
            file[f"entry/data/data_{number:06}"] = h5py.ExternalLink(f"data_{number}.h5", "entry/data/data")

    _is_the_experiment(read_scan(tmp_path / "master.h5", probe=the_probe))


def test_a_raster_in_cxi_is_read_row_by_row(tmp_path: Path) -> None:
    """Frames (rows, columns, N, N), translations too, and a dark frame off each."""

    def into_raster(file: h5py.File) -> None:
        replace(file, f"{DETECTOR}/data", COUNTS + np.uint16(2))
        translation = samples.translation(samples.experiment()).reshape(*RASTER, 3)
        replace(file, "entry_1/sample_1/geometry_1/translation", translation)
        file[f"{DETECTOR}/data_dark"] = np.full((samples.N, samples.N), 2.0)

    path = changed(save_cxi(tmp_path / "scan.cxi"), into_raster)

    for folder in (None, tmp_path):
        scan = read_scan(path, memory_map=folder)
        assert np.array_equal(scan.patterns, samples.experiment().counts)
        np.testing.assert_allclose(scan.positions_px, samples.experiment().positions_m / samples.PIXEL_M, rtol=1e-9)


def test_nexusformat_s_own_file_is_read(tmp_path: Path) -> None:
    """Written by the library itself, where it is installed."""
    nx = pytest.importorskip("nexusformat.nexus", reason="pip install nexusformat")
    y, x = nx.NXfield(1e6 * ROWS_M, name="y", units="um"), nx.NXfield(1e6 * COLUMNS_M, name="x", units="um")
    rows, columns = (nx.NXfield(np.arange(samples.N), name=name) for name in ("row", "column"))
    data = nx.NXdata(nx.NXfield(COUNTS, name="frames"), [y, x, rows, columns])
    detector = nx.NXdetector(
        distance=nx.NXfield(samples.DISTANCE_M, units="m"),
        x_pixel_size=nx.NXfield(samples.DETECTOR_PIXEL_M, units="m"),
        y_pixel_size=nx.NXfield(samples.DETECTOR_PIXEL_M, units="m"),
        pixel_mask=samples.experiment().bad.astype(np.uint32),
    )
    beam = nx.NXbeam(incident_energy=nx.NXfield(samples.ENERGY_EV, units="eV"))
    entry = nx.NXentry(data, nx.NXinstrument(detector, beam))
    nx.NXroot(entry).save(str(tmp_path / "own.nxs"))

    _is_the_experiment(read_scan(tmp_path / "own.nxs", probe=the_probe))
