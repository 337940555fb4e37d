"""Simulated scans: geometry, flux, statistics, reproducibility."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from ptycho_core.errors import ConfigError, ScanError
from ptycho_core.measurement.scan import MeasurementDomain
from ptycho_core.physics.optics import extract_patches
from ptycho_core.physics.probes import ProbeKind, make_probe, with_modes
from ptycho_core.physics.subpixel import scan_counts
from ptycho_core.simulation.scan_paths import (
    PathKind,
    ScanArea,
    jittered,
    on_whole_pixels,
    raster_positions,
    scan_area,
    spiral_positions,
    step_for_overlap,
)
from ptycho_core.simulation.simulate import SimulationConfig, simulate, simulate_scan


def _small(**changes: object) -> SimulationConfig:
    values: dict[str, object] = {"N": 32, "object_size_px": 64, "photons": 1e5} | changes
    return SimulationConfig(**values)  # type: ignore[arg-type]


def test_area_keeps_patches_on_the_object() -> None:
    """A patch at either corner of the area touches the corner of the object; a larger one does not fit."""
    area = scan_area((20, 30), 8)

    corners = extract_patches(np.ones((20, 30)), np.array([area.low_px, area.high_px]), 8)
    assert (corners == 1).all()
    assert area == ScanArea(low_px=(3.5, 3.5), high_px=(15.5, 25.5))
    assert area.inset(2.0) == ScanArea(low_px=(5.5, 5.5), high_px=(13.5, 23.5))
    with pytest.raises(ScanError, match="at least 32 x 32 px"):
        scan_area((31, 40), 32)
    with pytest.raises(ValueError, match="margin_px"):
        area.inset(6.5)


def test_raster_is_a_centred_grid() -> None:
    """Rows and columns are one step apart, and the rim left over is the same on both sides."""
    positions = raster_positions(ScanArea(low_px=(0.0, 0.0), high_px=(10.0, 7.0)), step_px=3.0)

    assert np.unique(positions[:, 0]).tolist() == [0.5, 3.5, 6.5, 9.5]
    assert np.unique(positions[:, 1]).tolist() == [0.5, 3.5, 6.5]
    assert len(positions) == 12


def test_spiral_has_the_density_of_its_step() -> None:
    """One point per step², filling the area, none closer than half a step."""
    area = ScanArea(low_px=(10.0, 20.0), high_px=(110.0, 180.0))

    positions = spiral_positions(area, step_px=5.0)

    assert len(positions) == pytest.approx(100 * 160 / 25, rel=0.05)
    assert (positions >= area.low_px).all()
    assert (positions <= area.high_px).all()
    gaps = np.hypot(*(positions[:, None] - positions[None, :]).transpose(2, 0, 1)) + 99 * np.eye(len(positions))
    assert gaps.min() > 2.5


def test_jitter_is_bounded_and_stays_inside() -> None:
    """Every position moves by at most the jitter, and none leaves the area."""
    area = ScanArea(low_px=(0.0, 0.0), high_px=(30.0, 30.0))
    grid = raster_positions(area, step_px=5.0)

    moved = jittered(grid, area, np.random.default_rng(1), jitter_px=2.0)

    assert 1.5 < np.abs(moved - grid).max() <= 2.0
    assert (moved >= 0).all()
    assert (moved <= 30).all()


@pytest.mark.parametrize("size", [31, 32])
def test_whole_pixel_positions_start_on_pixels(size: int) -> None:
    """Rounding moves a position by at most half a pixel and leaves no fraction at the patch's start."""
    positions = np.random.default_rng(2).uniform(20, 40, (50, 2))

    rounded = on_whole_pixels(positions, size)

    assert (((rounded - (size - 1) / 2) % 1) == 0).all()
    assert np.abs(rounded - positions).max() <= 0.5


def test_step_follows_from_the_overlap() -> None:
    """Discs of 30 px that overlap by 60 % are 12 px apart."""
    assert step_for_overlap(30.0, 0.6) == pytest.approx(12.0)
    with pytest.raises(ValueError, match="overlap"):
        step_for_overlap(30.0, 1.0)
    with pytest.raises(ValueError, match="step_px"):
        raster_positions(ScanArea(low_px=(0, 0), high_px=(1, 1)), step_px=0.0)


def _transparent(photons: float, n: int, *, background: float = 0.0) -> npt.NDArray[np.float64]:
    probe = make_probe(ProbeKind.GAUSSIAN, 32, photons=photons)
    scan = simulate_scan(
        np.ones((40, 40), dtype=complex),
        probe,
        np.random.default_rng(3).uniform(16, 23, (n, 2)),
        rng=np.random.default_rng(4),
        background=background,
    )
    return scan.counts().astype(np.float64)


def test_transparent_object_gives_the_photons_asked_for() -> None:
    """Photons per frame scatter around the flux by no more than Poisson statistics allow."""
    frames = _transparent(1e5, 64).sum(axis=(1, 2))

    z = (frames - 1e5) / np.sqrt(1e5)
    assert abs(z.mean()) * np.sqrt(64) < 4
    assert 0.6 < z.var() < 1.6


def test_background_adds_counts_everywhere() -> None:
    """The background is a mean count per pixel on top."""
    dark = _transparent(1e3, 64, background=2.0) - 0.0

    total = dark.sum(axis=(1, 2))
    expected = 1e3 + 2.0 * 32 * 32
    assert abs(total.mean() - expected) < 4 * np.sqrt(expected / 64)
    assert dark[:, 0, 0].mean() == pytest.approx(2.0, abs=4 * np.sqrt(2 / 64))


def test_counts_follow_the_forward_model() -> None:
    """Noise over expectation is Poisson: the mean squared deviation in units of the variance is one."""
    scan = simulate(_small(n_modes=2, aberration_rad=0.3, photons=1e6, background=0.5))
    assert scan.object is not None
    expected = scan_counts(scan.object, scan.probe, scan.positions_px, background=0.5)

    chi2 = (scan.counts() - expected) ** 2 / expected
    assert chi2.mean() == pytest.approx(1.0, abs=4 * np.sqrt((2 + 1 / 0.5) / chi2.size))


def test_scan_holds_what_made_it() -> None:
    """Counts in an integer type, object, probe with its flux, positions on the object, photons in the metadata."""
    scan = simulate(_small(n_modes=3, path=PathKind.SPIRAL, whole_pixel=True))

    assert scan.domain is MeasurementDomain.COUNTS
    assert scan.patterns.dtype == np.uint16
    assert scan.probe.shape == (3, 32, 32)
    assert float(np.sum(np.abs(scan.probe) ** 2)) == pytest.approx(1e5, rel=1e-5)
    assert scan.metadata.nphotons == pytest.approx(1e5, rel=1e-5)
    assert scan.object is not None
    assert scan.object.shape == (64, 64)
    assert ((scan.positions_px - 15.5) % 1 == 0).all()


def test_bright_frames_use_a_wider_type() -> None:
    """Counts beyond 65,535 or 4,294,967,295 are kept, not wrapped."""
    positions = np.array([[16.0, 16.0], [18.0, 17.0]])
    empty = np.ones((36, 36), dtype=complex)
    probe = make_probe(ProbeKind.GAUSSIAN, 32, photons=1.0)
    for photons, dtype in ((1e4, np.uint16), (1e8, np.uint32), (1e14, np.float64)):
        scan = simulate_scan(empty, probe * np.sqrt(photons), positions, rng=np.random.default_rng(5))

        assert scan.patterns.dtype == dtype
        assert scan.patterns.sum(dtype=np.float64) == pytest.approx(2 * photons, rel=0.05)


def test_seed_decides_everything() -> None:
    """The same seed repeats the scan bit for bit; another seed changes object, positions and noise."""
    one, same, other = (simulate(_small(seed=seed)) for seed in (7, 7, 8))

    np.testing.assert_array_equal(one.patterns, same.patterns)
    np.testing.assert_array_equal(one.positions_px, same.positions_px)
    assert (one.positions_px != other.positions_px).all()
    assert one.object is not None
    assert other.object is not None
    assert np.abs(one.object - other.object).max() > 0.1


def test_streams_are_independent() -> None:
    """More photons or aberrations leave object and positions as they were."""
    base, changed = simulate(_small()), simulate(_small(photons=1e6, aberration_rad=0.5, n_modes=2))

    np.testing.assert_array_equal(base.positions_px, changed.positions_px)
    assert base.object is not None
    assert changed.object is not None
    np.testing.assert_array_equal(base.object, changed.object)


def test_global_random_state_is_left_alone() -> None:
    """Simulating neither reads nor advances NumPy's global generator."""
    np.random.seed(0)  # noqa: NPY002 - the very state under test
    before = np.random.get_state(legacy=False)  # noqa: NPY002
    simulate(_small())

    after = np.random.get_state(legacy=False)  # noqa: NPY002
    np.testing.assert_array_equal(before["state"]["key"], after["state"]["key"])
    assert before["state"]["pos"] == after["state"]["pos"]


def test_all_problems_of_a_configuration_come_together() -> None:
    """Every field out of range is named in one error, with what was expected and found."""
    bad = {
        "N": 7, "object_size_px": 8, "object_kind": "cheese", "probe_kind": "torch", "path": "straight",
        "n_modes": 0, "photons": float("nan"), "background": -1.0, "step_px": 0.0, "jitter_px": -1.0,
        "amplitude_min": 2.0, "phase_range_rad": float("inf"), "aberration_rad": -1.0, "whole_pixel": 1, "seed": -1,
    }  # fmt: skip

    with pytest.raises(ConfigError) as caught:
        _small(**bad)

    assert {problem.path for problem in caught.value.problems} == set(bad)
    assert "dead-leaves" in str(caught.value)
    assert "'cheese'" in str(caught.value)


def test_jitter_needs_room_on_the_object() -> None:
    """An object without room for a pattern and its jitter is refused, not silently clipped."""
    with pytest.raises(ConfigError, match=r"object_size_px.*2 \* jitter_px"):
        _small(object_size_px=34, jitter_px=1.5)


def test_names_of_kinds_are_accepted() -> None:
    """Plain strings become members."""
    config = _small(N=32, object_kind="chip", probe_kind="aperture", path="spiral")

    assert (config.probe_kind, config.path) == (ProbeKind.APERTURE, PathKind.SPIRAL)


@pytest.mark.parametrize(("name", "object_value", "probe_value"), [("object", 1e39, 1.0), ("probe", 1.0, 1e39)])
def test_numbers_that_no_scan_holds_are_refused(name: str, object_value: float, probe_value: float) -> None:
    """Who gives a number too large for complex64 is told where it is."""
    with pytest.raises(ScanError, match=f"{name}: expected finite values"):
        simulate_scan(
            np.full((36, 36), object_value + 0j),
            np.full((1, 32, 32), probe_value + 0j),
            np.array([[16.0, 16.0]]),
            rng=np.random.default_rng(0),
        )


def test_patch_off_the_object_is_refused() -> None:
    """A position too close to the border is an error, and so is a negative background."""
    probe = with_modes(make_probe(ProbeKind.GAUSSIAN, 32, photons=1.0), 1)
    empty = np.ones((36, 36), dtype=complex)

    with pytest.raises(ScanError, match="stick out"):
        simulate_scan(empty, probe, np.array([[10.0, 16.0]]), rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="background"):
        simulate_scan(empty, probe, np.array([[16.0, 16.0]]), rng=np.random.default_rng(0), background=-1.0)


@pytest.mark.parametrize("kind", list(ProbeKind))
def test_odd_patterns_have_zero_frequency_at_the_middle(kind: ProbeKind) -> None:
    """The far field of a probe of 33 px in an empty object is symmetric about pixel 16, and holds its photons."""
    probe = make_probe(kind, 33, photons=1e5)
    counts = scan_counts(np.ones((40, 40), dtype=np.complex64), probe, np.array([[19.0, 20.0]]))[0]

    offset = np.arange(33) - 16
    centre = [(counts.sum(axis=axis) * offset).sum() / counts.sum() for axis in (1, 0)]
    assert centre == pytest.approx([0.0, 0.0], abs=0.05)
    assert counts.sum() == pytest.approx(1e5, rel=1e-3)
