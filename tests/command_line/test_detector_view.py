"""--mask, --flip and --transpose, wherever a scan is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ptycho_adapters.cli import main
from ptycho_adapters.files import read_scan, write_scan
from ptycho_core.errors import ScanError
from ptycho_core.measurement.preparation.settings import Flip
from ptycho_core.measurement.views import DetectorView, seen
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_core.measurement.scan import Scan


@pytest.fixture(scope="module", params=[16, 17])
def scan(request: pytest.FixtureRequest) -> Scan:
    """Few patterns, of an even and of an odd side."""
    return simulate(SimulationConfig(N=int(request.param), object_size_px=40, step_px=9.0, photons=1e5, seed=3))


@pytest.mark.parametrize("flip", list(Flip))
@pytest.mark.parametrize("transpose", [False, True])
def test_zero_frequency_stays_where_it_is(flip: Flip, transpose: bool, scan: Scan) -> None:
    """Every frequency goes to the one that the flip means; twice the same, nothing has happened."""
    turned = seen(scan, DetectorView(flip=flip, transpose=transpose))
    middle = scan.N // 2
    y, x = (middle + 3, middle - 5) if not transpose else (middle - 5, middle + 3)
    down, right = {Flip.NONE: (1, 1), Flip.ROWS: (-1, 1), Flip.COLUMNS: (1, -1), Flip.BOTH: (-1, -1)}[flip]
    source = (middle + 3 * down, middle - 5 * right)

    np.testing.assert_array_equal(turned.patterns[:, middle, middle], scan.patterns[:, middle, middle])
    np.testing.assert_array_equal(turned.patterns[:, y, x], scan.patterns[:, source[0], source[1]])
    if not transpose:
        np.testing.assert_array_equal(seen(turned, DetectorView(flip=flip)).patterns, scan.patterns)


def test_a_mask_joins_that_of_the_file_and_turns_with_the_patterns(scan: Scan) -> None:
    """It is in the order of the file."""
    bad = np.zeros((scan.N, scan.N), dtype=bool)
    bad[2, 5] = True
    turned = seen(seen(scan, DetectorView(bad=bad)), DetectorView(bad=bad.T, transpose=True))

    assert turned.bad_pixels is not None
    np.testing.assert_array_equal(turned.bad_pixels, bad | bad.T)
    with pytest.raises(ScanError, match="mask: expected"):
        seen(scan, DetectorView(bad=np.zeros((3, 3), dtype=bool)))


def test_the_flags_are_heard_by_commands(scan: Scan, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """convert writes what is seen; inspect and infer take the same flags, and refuse a mask of another size."""
    path, mask = tmp_path / "scan.npz", tmp_path / "mask.npy"
    write_scan(scan, path)
    bad = np.zeros((scan.N, scan.N), dtype=np.uint8)
    bad[1, 2] = 1
    np.save(mask, bad)
    assert main(["convert", str(path), str(tmp_path / "out.npz"), "--mask", str(mask), "--flip", "rows"]) == 0
    made = read_scan(tmp_path / "out.npz", detector_check="off")
    np.testing.assert_array_equal(made.patterns, seen(scan, DetectorView(flip=Flip.ROWS)).patterns)
    assert made.bad_pixels is not None
    assert int(made.bad_pixels.sum()) == 1

    np.save(mask, bad[:-1])
    capsys.readouterr()
    for line in (["inspect", str(path)], ["infer", "--test-data", str(path), "--output-dir", str(tmp_path / "o")]):
        if line[0] == "infer" and scan.N < 16:
            continue
        main([*line, "--mask", str(mask)])
        captured = capsys.readouterr()
        assert "mask: expected real numbers of shape" in captured.out + captured.err
