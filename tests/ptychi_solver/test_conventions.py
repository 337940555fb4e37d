"""Our scans inside pty-chi and back: the same frame, flux and Fourier transform."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest

from ptychi_sample import clean_scan, truth_of
from ptycho_adapters.ptychi.engines import Engine, RefineSettings
from ptycho_adapters.ptychi.solver import Solver
from ptycho_core.physics.subpixel import scan_counts

if TYPE_CHECKING:
    from ptycho_core.measurement.scan import Scan


@pytest.mark.parametrize("n_modes", [1, 3])
@pytest.mark.parametrize("size", [32, 33])
def test_what_went_in_comes_back(size: int, n_modes: int) -> None:
    """Object, probe and positions come back bit for bit after no epoch, for even and odd frames and any modes."""
    scan = clean_scan(N=size, n_modes=n_modes)
    solver = Solver(scan, truth_of(scan), RefineSettings())

    np.testing.assert_array_equal(solver.object, truth_of(scan).object)
    np.testing.assert_array_equal(solver.probe, scan.probe)
    np.testing.assert_array_equal(solver.positions_px, scan.positions_px)


@pytest.mark.parametrize(("size", "n_modes", "whole_pixel"), [(32, 1, False), (33, 1, False), (33, 3, True)])
def test_it_expects_our_counts(size: int, n_modes: int, *, whole_pixel: bool) -> None:
    """pty-chi expects the counts of our float64 reference: positions, flux and the place of the beam agree."""
    scan = clean_scan(N=size, n_modes=n_modes, whole_pixel=whole_pixel)
    assert scan.object is not None
    ours = scan_counts(scan.object, scan.probe, scan.positions_px)

    expected = Solver(scan, truth_of(scan), RefineSettings()).expected_counts()

    np.testing.assert_allclose(expected, ours, rtol=0, atol=1e-5 * float(ours.max()))


@pytest.mark.parametrize("size", [32, 33])
@pytest.mark.parametrize("engine", [Engine.LSQML, Engine.EPIE])
def test_the_truth_stays(engine: Engine, size: int) -> None:
    """An epoch from the truth on data without noise moves neither object nor probe, nor sees an error."""
    scan = clean_scan(N=size)
    start = truth_of(scan)
    solver = Solver(scan, start, RefineSettings(engine=engine))

    assert solver.step() < 1e-6
    np.testing.assert_allclose(solver.object, start.object, rtol=0, atol=1e-4)
    np.testing.assert_allclose(solver.probe, start.probe, rtol=0, atol=1e-4 * float(abs(start.probe).max()))


def test_bad_pixels_do_not_pull(clean: Scan) -> None:
    """A pixel that the mask calls bad moves nothing, however wrong it is."""
    bad = np.zeros((clean.N, clean.N), dtype=bool)
    bad[3, 20] = True
    wrong = clean.patterns.copy()
    wrong[:, bad] = 1e5
    start = truth_of(clean)
    solver = Solver(attrs.evolve(clean, patterns=wrong, bad_pixels=bad), start, RefineSettings())

    solver.step()

    np.testing.assert_allclose(solver.object, start.object, rtol=0, atol=1e-3)


def test_positions_are_found(clean: Scan) -> None:
    """Positions that are off by up to a pixel are found to a tenth of one."""
    off = np.clip(np.random.default_rng(0).normal(size=clean.positions_px.shape), -1, 1)
    assert float(off.std()) > 0.5
    start = attrs.evolve(truth_of(clean), positions_px=clean.positions_px + off)
    settings = RefineSettings(engine=Engine.EPIE, position_refinement=True, quiet_epochs=0, batch_size=10)
    solver = Solver(clean, start, settings)

    for _ in range(25):
        solver.step()

    left = solver.positions_px - clean.positions_px
    assert float((left - left.mean(axis=0)).std()) < 0.1
