"""HDF5 files behind a user block, in the hands of another program, and with a ring beside the beam."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from beamline_samples import ENERGY_EV, JOULE_PER_EV, SOURCE, changed, experiment, replace, save_cxi
from ptycho_adapters.files import read_scan
from ptycho_core.errors import ScanFileError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("size", [512, 1024, 8192])
def test_a_file_behind_a_user_block_is_read(size: int, tmp_path: Path) -> None:
    """As MATLAB writes it, with a text in front."""
    source, path = save_cxi(tmp_path / "scan.cxi"), tmp_path / "scan.mat"
    with h5py.File(source, "r") as plain, h5py.File(path, "w", userblock_size=size) as file:
        for name in plain:
            plain.copy(name, file)
        file[f"{SOURCE}/energy"].attrs["units"] = "J"
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file")

    np.testing.assert_array_equal(read_scan(path).patterns, experiment().counts)


def test_a_file_that_is_open_for_writing_is_named_as_that(tmp_path: Path) -> None:
    """Not as damaged: whoever waits can read it."""
    path, seen = tmp_path / "written.h5", tmp_path / "seen.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file["frames"] = experiment().counts
        file.swmr_mode = True
        file.flush()
        shutil.copy(path, seen)

    with pytest.raises(ScanFileError, match="found one that is open for writing"):
        read_scan(seen)


def test_the_beam_s_energy_comes_before_the_ring_s(tmp_path: Path) -> None:
    """In NXcxi_ptycho the source is the storage ring; energies state their units."""
    plain = read_scan(save_cxi(tmp_path / "plain.cxi"))

    def of_a_ring(file: h5py.File) -> None:
        replace(file, f"{SOURCE}/energy", 6e9 * JOULE_PER_EV)
        file["entry_1/instrument_1/beam_1/energy"] = ENERGY_EV
        file["entry_1/instrument_1/beam_1/energy"].attrs["units"] = "eV"

    scan = read_scan(changed(save_cxi(tmp_path / "scan.cxi"), of_a_ring))
    assert scan.metadata.wavelength_m == pytest.approx(plain.metadata.wavelength_m, rel=1e-9)
