"""What programs make of CXI: bits of masks, motors in place of translations, energies in other units."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import beamline_samples as samples
from beamline_samples import DETECTOR, SOURCE, changed, replace, save_cxi
from ptycho_adapters.cli import main
from ptycho_adapters.files import read_scan

if TYPE_CHECKING:
    from pathlib import Path

    import h5py

PEAK, CORRECTED, MISSING = 0x2000, 0x4000, 0x200


def test_bits_of_a_mask_that_are_no_faults_mask_nothing(tmp_path: Path) -> None:
    """A pixel whose background was corrected, or that is in a peak, is a good one; a missing one is not."""
    mask = np.full((samples.N, samples.N), CORRECTED, dtype=np.uint32)
    mask[2, 3], mask[3, 11] = PEAK | CORRECTED, MISSING | CORRECTED

    scan = read_scan(changed(save_cxi(tmp_path / "a.cxi"), lambda file: replace(file, f"{DETECTOR}/mask", mask)))

    assert scan.bad_pixels is not None
    assert np.argwhere(scan.bad_pixels).tolist() == [[3, 11]]
    assert "no faults" in scan.metadata.extra["mask_evidence"]


def test_a_mask_of_bytes_has_no_bits(tmp_path: Path) -> None:
    """Anything but 0 is bad where a mask is a plain one."""
    mask = np.zeros((samples.N, samples.N), dtype=np.uint8)
    mask[3, 11] = 0x20

    scan = read_scan(changed(save_cxi(tmp_path / "a.cxi"), lambda file: replace(file, f"{DETECTOR}/mask", mask)))

    assert scan.bad_pixels is not None
    assert scan.bad_pixels[3, 11]
    assert "mask_evidence" not in scan.metadata.extra


@pytest.mark.parametrize("shape", [(6,), (2, 3), (6, 1, 1)])
def test_motors_stand_for_translations(shape: tuple[int, ...], tmp_path: Path) -> None:
    """NXcxi_ptycho has x and y of the sample, for each frame or in the shape of its raster, in their own units."""

    def with_motors(file: h5py.File) -> None:
        translation = file["entry_1/sample_1/geometry_1/translation"][()]
        del file["entry_1/sample_1/geometry_1/translation"], file["entry_1/data_1/translation"]
        for axis, values in zip("xy", translation.T, strict=False):
            file[f"entry_1/sample_1/transformations/{axis}"] = (1e3 * values).reshape(shape)
            file[f"entry_1/sample_1/transformations/{axis}"].attrs["units"] = "mm"

    scan = read_scan(changed(save_cxi(tmp_path / "a.cxi"), with_motors))

    np.testing.assert_allclose(scan.positions_px, samples.experiment().positions_m / samples.PIXEL_M, rtol=1e-9)


def test_a_flag_mends_an_energy_in_another_unit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is said is not looked for in the file; what else there is, is told before and after."""
    path = changed(save_cxi(tmp_path / "a.cxi"), lambda file: replace(file, f"{SOURCE}/energy", 8000.0))

    assert main(["inspect", str(path)]) == 0
    said = capsys.readouterr().out
    assert "expected a photon energy in joules" in said
    assert "or give --energy-ev" in said
    assert "extent_m" in said
    assert main(["inspect", str(path), "--energy-ev", "8000"]) == 0
    assert "scan, CXI" in capsys.readouterr().out
    assert main(["prepare", str(path), str(tmp_path / "out.npz"), "--energy-ev", "8000", "--quiet"]) == 0
