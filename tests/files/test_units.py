"""Units that files state, units that cannot be, and dark frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from beamline_samples import (
    DETECTOR,
    DETECTOR_PIXEL_M,
    DISTANCE_M,
    ENERGY_EV,
    SOURCE,
    TRANSLATION,
    N,
    changed,
    experiment,
    replace,
    save_cxi,
    save_one,
    the_probe,
    translation,
)
from ptycho_adapters.files import read_scan
from ptycho_adapters.files.units import factor_to
from ptycho_core.errors import Problem, ScanFileError
from ptycho_core.measurement.plausibility import geometry_problems, position_problems

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_core.measurement.scan import Scan


@pytest.mark.parametrize(
    ("stated", "wanted", "factor"),
    [
        ("m", "m", 1.0), ("mm", "m", 1e-3), ("um", "m", 1e-6), ("µm", "m", 1e-6), ("μm", "m", 1e-6),
        ("micron", "m", 1e-6), ("nm", "m", 1e-9), ("Angstrom", "m", 1e-10), ("Å", "m", 1e-10), ("METER", "m", 1.0),
        ("keV", "J", 1.602176634e-16), ("eV", "J", 1.602176634e-19), ("eV", "keV", 1e-3), ("deg", "rad", np.pi / 180),
    ],
)  # fmt: skip
def test_units_are_read_as_they_are_spelled(stated: str, wanted: str, factor: float) -> None:
    """Symbols, names and either letter for micro."""
    assert factor_to(wanted, stated, "key") == pytest.approx(factor, rel=1e-12)


@pytest.mark.parametrize("stated", ["s", "eV", "furlongs per", "9**9**9**9", "m m", "x" * 100, "counts", "()"])
def test_what_is_no_length_is_refused(stated: str) -> None:
    """Another kind of unit, none at all, and nothing that would have to be calculated."""
    problem = factor_to("m", stated, "a/distance@units")

    assert isinstance(problem, Problem)
    assert str(problem).startswith("a/distance@units: expected a unit that m can be made of")


def _stating(file: h5py.File, key: str, factor: float, unit: str) -> None:
    value = np.asarray(file[key]) * factor
    replace(file, key, value)
    file[key].attrs["units"] = unit


def _in_other_units(file: h5py.File) -> None:
    _stating(file, f"{DETECTOR}/distance", 1e3, "mm")
    _stating(file, f"{DETECTOR}/x_pixel_size", 1e6, "um")
    _stating(file, f"{DETECTOR}/y_pixel_size", 1e2, "cm")
    _stating(file, TRANSLATION, 1e9, "nm")
    replace(file, f"{SOURCE}/energy", ENERGY_EV / 1e3)
    file[f"{SOURCE}/energy"].attrs["units"] = np.bytes_("keV")


def _same(one: Scan, other: Scan) -> None:
    np.testing.assert_allclose(one.positions_px, other.positions_px, rtol=1e-9)
    assert one.metadata.pixel_size_m == pytest.approx(other.metadata.pixel_size_m, rel=1e-9)
    assert (one.metadata.distance_m or 0.0) == pytest.approx(other.metadata.distance_m or 0.0, rel=1e-9)


def test_the_units_of_a_cxi_file_are_honoured(tmp_path: Path) -> None:
    """Lengths, positions and the energy mean what their attributes say."""
    plain = read_scan(save_cxi(tmp_path / "plain.cxi"))

    _same(read_scan(changed(save_cxi(tmp_path / "other.cxi"), _in_other_units)), plain)


@pytest.mark.parametrize(("name", "key"), [("ptyd", "meta/distance"), ("fold_slice", "dx")])
def test_the_units_of_other_formats_are_honoured(name: str, key: str, tmp_path: Path) -> None:
    """A length in millimetres is one everywhere."""
    path = save_one(tmp_path, name)
    plain = read_scan(path, probe=the_probe)
    parameters = next(one for one in sorted(tmp_path.rglob("*.*")) if key in _keys(one))
    changed(parameters, lambda file: _stating(file, key, 1e3, "mm"))

    _same(read_scan(path, probe=the_probe), plain)


def _keys(path: Path) -> list[str]:
    names: list[str] = []
    with h5py.File(path, "r") as file:
        file.visit(lambda name: names.append(str(name)))
    return names


@pytest.mark.parametrize(
    ("key", "unit"), [(f"{DETECTOR}/distance", "s"), (TRANSLATION, "steps"), (f"{SOURCE}/energy", "nm")]
)
def test_a_unit_of_another_kind_is_refused_by_its_place(key: str, unit: str, tmp_path: Path) -> None:
    """It is named, not passed over."""
    path = changed(save_cxi(tmp_path / "scan.cxi"), lambda file: _stating(file, key, 1.0, unit))

    with pytest.raises(ScanFileError, match=f"{key}@units: expected a unit"):
        read_scan(path)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        (f"{DETECTOR}/distance", DISTANCE_M * 1e3, "found 2000 m; it may be in mm"),
        (f"{DETECTOR}/x_pixel_size", DETECTOR_PIXEL_M * 1e3, "found 0.075 m; it may be in mm"),
    ],
)
def test_lengths_that_cannot_be_are_refused_with_the_likely_unit(
    key: str, value: float, words: str, tmp_path: Path
) -> None:
    """No unit is stated, and metres it cannot be."""
    path = changed(save_cxi(tmp_path / "scan.cxi"), lambda file: replace(file, key, value))

    with pytest.raises(ScanFileError, match=words):
        read_scan(path)


def test_positions_that_cannot_be_are_refused(tmp_path: Path) -> None:
    """Millimetres taken for metres spread over millions of pixels; kilometres lie within one."""
    path = save_cxi(tmp_path / "scan.cxi")
    for factor in (1e9, 1e-2):
        positions = translation(experiment()) * factor
        with h5py.File(path, "r+") as file:
            replace(file, TRANSLATION, positions)
        with pytest.raises(ScanFileError, match="expected positions in object pixels, which span"):
            read_scan(path)


def test_what_can_be_is_let_through() -> None:
    """From electrons to visible light, from two positions a pixel apart to a stage far out."""
    assert not geometry_problems(distance_m=-7.2, detector_pixel_m=75e-6, pixel_m=2e-11)
    assert not geometry_problems(distance_m=0.03, detector_pixel_m=5.5e-6, pixel_m=4e-6)
    assert not position_problems(np.array([[3e7, 0.0], [3e7, 1.0]]), size_px=512)
    assert not position_problems(np.array([[3e7, 0.0]]), size_px=512)
    (few,) = position_problems(np.linspace(0.0, 1.9, 40).reshape(20, 2), size_px=64)
    assert "divide them by the object's pixel" in few.fix
    assert "energy, distance and detector pixel" in few.fix  # 8 for 8000 eV looks like that


def _with_dark(file: h5py.File, dark: np.ndarray, pedestal: float) -> None:
    data = np.asarray(file[f"{DETECTOR}/data"])
    replace(file, f"{DETECTOR}/data", (data + pedestal).astype(np.uint16))
    file[f"{DETECTOR}/data_dark"] = dark


@pytest.mark.parametrize("mapped", [False, True])
def test_dark_frames_are_taken_off(mapped: bool, tmp_path: Path) -> None:
    """In memory and in a map, what is left is what was there without a pedestal, and it is said."""
    plain = read_scan(save_cxi(tmp_path / "plain.cxi"))
    dark = np.stack([np.full((N, N), level, np.uint16) for level in (19, 21)])
    path = changed(save_cxi(tmp_path / "dark.cxi"), lambda file: _with_dark(file, dark, 20))
    scan = read_scan(path, memory_map=tmp_path / "maps" if mapped else None)

    np.testing.assert_array_equal(scan.patterns, plain.patterns)
    assert scan.metadata.extra["dark_evidence"].startswith("the mean of 2 dark frames, 20 a pixel, was taken off")


def test_an_overflow_is_none_after_the_dark_frame(tmp_path: Path) -> None:
    """The largest number of the type in one frame is replaced, not taken for a bright pixel."""

    def burnt(file: h5py.File) -> None:
        _with_dark(file, np.full((N, N), 20.0), 20)
        file[f"{DETECTOR}/data"][2, 5, 6] = 65535

    scan = read_scan(changed(save_cxi(tmp_path / "dark.cxi"), burnt))

    assert scan.patterns.max() < 65535 / 2


@pytest.mark.parametrize("dark", [np.zeros((N, N - 1)), np.zeros(4), np.full((N, N), np.nan)])
def test_dark_frames_that_do_not_fit_are_refused(dark: np.ndarray, tmp_path: Path) -> None:
    """Another size, no frames, no numbers: named, never dropped."""
    path = changed(save_cxi(tmp_path / "dark.cxi"), lambda file: _with_dark(file, dark, 0))

    with pytest.raises(ScanFileError, match="dark"):
        read_scan(path)
