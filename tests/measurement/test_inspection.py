"""Inspection: facts against an independent count, and every suspicion raised by its cause and by nothing else."""

from __future__ import annotations

from functools import cache

import attrs
import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial.distance import cdist

from ptycho_core.measurement.findings import Suspicion
from ptycho_core.measurement.inspection import ProbeShape, inspect_scan
from ptycho_core.measurement.scan import MeasurementDomain, Scan, ScanMetadata
from ptycho_core.measurement.suspicions import findings
from ptycho_core.physics.probes import ProbeKind
from ptycho_core.simulation.simulate import SimulationConfig, simulate

FOUND_ELSEWHERE = frozenset(
    {
        # while the file is read
        Suspicion.HOT_PIXELS,
        Suspicion.SPIKES,
        Suspicion.OVERFLOW,
        Suspicion.NEGATIVE,
        Suspicion.NOT_FINITE,
        Suspicion.DARK_FRAMES,
        Suspicion.GLITCHED_FRAMES,
        # by a reconstruction
        Suspicion.BEAM_MOVED,
        Suspicion.FOCUS_MOVED,
        Suspicion.BACKGROUND,
        Suspicion.POSITIONS_REFINED,
        Suspicion.ERROR_BARS,
        Suspicion.PRIOR_UNKNOWN,
        Suspicion.ORIENTATION,
        Suspicion.PROBE_REPLACED,
        Suspicion.FRAME_FLUX,
        Suspicion.PROBE_CHANGED,
        Suspicion.PROBE_MODES,
        Suspicion.POOR_FIT,
    }
)


@cache
def sound() -> Scan:
    """36 frames of 64 px along a path that is neither a grid nor sparse."""
    return simulate(SimulationConfig(object_size_px=101, step_px=6.0, jitter_px=2.0, photons=1e6, seed=3))


def kinds(scan: Scan) -> set[Suspicion]:
    return {finding.kind for finding in findings(inspect_scan(scan))}


def with_counts(counts: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Scan:
    return attrs.evolve(sound(), patterns=counts)


def test_a_sound_scan_is_not_suspicious() -> None:
    """A simulated scan has no findings."""
    assert findings(inspect_scan(sound())) == ()


def test_flux_is_that_of_the_good_pixels() -> None:
    """Photons per frame, mean pattern and largest count leave masked pixels out."""
    mask = np.zeros((64, 64), dtype=bool)
    mask[30:34, 30:34] = True
    scan = attrs.evolve(sound(), bad_pixels=mask)

    found = inspect_scan(scan).detector

    counts = np.where(mask, 0.0, scan.patterns.astype(np.float64))
    np.testing.assert_allclose(found.photons, counts.sum(axis=(1, 2)), rtol=1e-12)
    np.testing.assert_allclose(found.mean, counts.mean(axis=0), rtol=1e-12)
    assert found.largest == counts.max()


def test_amplitudes_are_read_as_such() -> None:
    """Square roots of the counts give the same facts as the counts."""
    counts = sound().counts()
    rooted = attrs.evolve(sound(), patterns=np.sqrt(counts), domain=MeasurementDomain.AMPLITUDE)

    one, other = inspect_scan(sound()), inspect_scan(rooted)

    np.testing.assert_allclose(other.detector.photons, one.detector.photons, rtol=1e-6)
    assert other.centre_px == pytest.approx(one.centre_px, abs=1e-4)


def test_distances_are_those_between_neighbours() -> None:
    """Nearest and typical distances agree with the full table of distances."""
    table = cdist(sound().positions_px, sound().positions_px)
    nearest = np.sort(table, axis=1)

    path = inspect_scan(sound()).path

    np.testing.assert_allclose(path.nearest_px, nearest[:, 1], rtol=1e-12)
    assert path.spacing_px == pytest.approx(np.median(nearest[:, 1:7]))
    assert path.extent_px == pytest.approx(tuple(np.ptp(sound().positions_px, axis=0)))


def test_the_diameter_holds_nine_tenths_of_the_power() -> None:
    """A flat disc of radius R is about 2·√0.9·R wide by that measure; a ring is told from it."""
    y, x = np.mgrid[:64, :64] - 32.0
    radius = np.hypot(y, x)
    disc = (radius <= 20).astype(np.complex64)
    ring = ((radius <= 20) & (radius > 10)).astype(np.complex64)

    found = {name: inspect_scan(attrs.evolve(sound(), probe=probe)).probe for name, probe in (("d", disc), ("r", ring))}

    assert found["d"].diameter_px == pytest.approx(2 * np.sqrt(0.9) * 20, abs=1.5)
    assert found["d"].shape is ProbeShape.SPOT
    assert found["r"].shape is ProbeShape.RING


@pytest.mark.parametrize(
    ("kind", "shape"),
    [(ProbeKind.GAUSSIAN, ProbeShape.SPOT), (ProbeKind.ZONE_PLATE, ProbeShape.RING)],
)
def test_simulated_probes_are_named(kind: ProbeKind, shape: ProbeShape) -> None:
    """A Gaussian is a spot, a zone plate out of focus with its central stop is a ring."""
    scan = simulate(SimulationConfig(object_size_px=101, step_px=12.0, photons=1e5, probe_kind=kind))

    assert inspect_scan(scan).probe.shape is shape


def test_modes_share_the_power() -> None:
    """Shares are by squared modulus, and the photons are their sum."""
    first = sound().probe[0]
    scan = attrs.evolve(sound(), probe=np.stack([first * np.sqrt(0.8), first * np.sqrt(0.2)]).astype(np.complex64))

    probe = inspect_scan(scan).probe

    assert probe.power_shares == pytest.approx((0.8, 0.2), rel=1e-5)
    assert probe.photons == pytest.approx(float(np.square(np.abs(first)).sum()), rel=1e-5)


@pytest.mark.parametrize("shift", [(0, 0), (5, -9), (32, 32)])
def test_the_centre_of_rolled_patterns_is_found(shift: tuple[int, int]) -> None:
    """Rolling the patterns moves their centre by as much, round the edge too."""
    rolled = with_counts(np.roll(sound().patterns, shift, axis=(1, 2)))

    before, after = (np.asarray(inspect_scan(scan).centre_px) for scan in (sound(), rolled))

    np.testing.assert_allclose((after - before - shift + 32) % 64 - 32, 0.0, atol=1e-6)


def test_data_with_zero_frequency_in_the_corner_are_named() -> None:
    """What an FFT without shift leaves behind is told as such."""
    found = findings(inspect_scan(with_counts(np.fft.ifftshift(sound().patterns, axes=(1, 2)))))

    assert [finding.kind for finding in found] == [Suspicion.NOT_CENTRED]
    assert "corner" in found[0].text


def spoiled() -> dict[Suspicion, Scan]:
    """One scan for each suspicion."""
    scan = sound()
    counts = np.asarray(scan.patterns).copy()
    n = scan.n_patterns
    brightest = np.unravel_index(int(np.argmax(counts.sum(axis=0))), counts.shape[1:])
    dead, stuck, odd, repeated = (counts.copy() for _ in range(4))
    dead[:, brightest[0], brightest[1]] = 0
    stuck[:, 0, 0] = 3
    odd[7] = odd[7] // 3
    repeated[5] = repeated[4]
    positions = np.asarray(scan.positions_px).copy()
    double, far = positions.copy(), positions.copy()
    double[3] = double[9]
    far[0] += 400.0
    grid = np.stack(np.meshgrid(np.arange(6), np.arange(6), indexing="ij"), axis=-1).reshape(-1, 2) * 7.0 + 40.0
    shifted = np.roll(np.asarray(scan.probe), 32, axis=(1, 2))
    y, x = np.mgrid[:64, :64] - 32.0
    wider = (scan.probe * np.exp(0.05j * (y**2 + x**2))).astype(np.complex64)
    return {
        Suspicion.SATURATED: with_counts(np.minimum(counts, np.uint32(np.percentile(counts, 99.9)))),
        Suspicion.DEAD_PIXELS: with_counts(dead),
        Suspicion.STUCK_PIXELS: with_counts(stuck),
        Suspicion.NOT_CENTRED: with_counts(np.roll(counts, 8, axis=1)),
        Suspicion.UNEVEN_FLUX: with_counts(odd),
        Suspicion.REPEATED_FRAMES: with_counts(repeated),
        Suspicion.DUPLICATE_POSITIONS: attrs.evolve(scan, positions_px=double),
        Suspicion.LONELY_POSITIONS: attrs.evolve(scan, positions_px=far, object=None),
        Suspicion.LITTLE_OVERLAP: attrs.evolve(scan, positions_px=positions * 2.5, object=None),
        Suspicion.RASTER: attrs.evolve(scan, positions_px=grid[:n], object=None),
        Suspicion.OUTSIDE_OBJECT: attrs.evolve(scan, positions_px=positions + 60.0),
        Suspicion.PROBE_FLUX: attrs.evolve(scan, probe=scan.probe * np.float32(2.0)),
        Suspicion.PROBE_CUT: attrs.evolve(scan, probe=shifted),
        Suspicion.PROBE_LIGHT: attrs.evolve(scan, probe=wider),
        Suspicion.DECLARED_FLUX: attrs.evolve(scan, metadata=ScanMetadata(nphotons=1e9)),
    }


def test_points_beside_a_grid_are_no_raster() -> None:
    """A grid is told with its steps, turned, and where a stage is a little off; jittered points have no period."""
    grid = np.stack(np.meshgrid(np.arange(6), np.arange(6), indexing="ij"), axis=-1).reshape(-1, 2) * (7.0, 9.0) + 40.0
    off = np.random.default_rng(0).normal(size=grid.shape)
    cosine, sine = np.cos(0.7), np.sin(0.7)

    def found(positions_px: npt.ArrayLike) -> tuple[float, float] | None:
        places = np.asarray(positions_px, dtype=np.float64)
        return inspect_scan(attrs.evolve(sound(), positions_px=places, object=None)).path.grid_px

    assert found(grid) == pytest.approx((7.0, 9.0))
    assert found(grid + 0.1 * off) == pytest.approx((7.0, 9.0), abs=0.4)
    assert found(grid @ [[cosine, sine], [-sine, cosine]] + 90.0) == pytest.approx((7.0, 9.0), abs=1e-2)
    assert found(grid + 0.8 * off) is None
    assert found(np.column_stack([grid[:, 0] * 0.0 + 50.0, np.arange(36) * 1.0])) is None


def test_the_reach_of_the_light_is_that_of_the_frames_and_of_the_probe() -> None:
    """It is the radius of a disc, wherever this lies, and patterns that reach further than the probe are no finding."""
    y, x = np.mgrid[:64, :64] - 32.0
    disc = np.where(np.hypot(y, x) < 20.0, 100, 0).astype(np.uint32)
    light = np.broadcast_to(np.roll(disc, (30, 3), axis=(0, 1)), (sound().n_patterns, 64, 64))

    seen = inspect_scan(attrs.evolve(sound(), patterns=light))

    assert seen.reach_px == pytest.approx(20.0 * 0.9**0.5, abs=0.3)
    assert seen.expected_reach_px < seen.reach_px
    assert Suspicion.PROBE_LIGHT not in {finding.kind for finding in findings(seen)}


@pytest.mark.parametrize("kind", [kind for kind in Suspicion if kind not in FOUND_ELSEWHERE])
def test_each_cause_raises_its_suspicion_alone(kind: Suspicion) -> None:
    """A scan that is spoiled in one way has that finding and no other."""
    assert kinds(spoiled()[kind]) == {kind}


def test_findings_name_pixels_and_frames() -> None:
    """What is suspicious can be looked up: pixel indices and frame numbers are in the text."""
    asked = (Suspicion.STUCK_PIXELS, Suspicion.UNEVEN_FLUX)
    texts = {kind: findings(inspect_scan(spoiled()[kind]))[0].text for kind in asked}

    assert "(0, 0)" in texts[Suspicion.STUCK_PIXELS]
    assert ": 7" in texts[Suspicion.UNEVEN_FLUX]


def test_masked_pixels_are_not_suspicious() -> None:
    """A dead pixel that the mask knows is no finding."""
    mask = np.zeros((64, 64), dtype=bool)
    scan = spoiled()[Suspicion.DEAD_PIXELS]
    mask[np.unravel_index(int(np.argmax(sound().patterns.sum(axis=0))), (64, 64))] = True

    assert kinds(attrs.evolve(scan, bad_pixels=mask)) == set()


def test_one_position_is_enough() -> None:
    """A single frame has no neighbours and no overlap, and is inspected all the same."""
    found = inspect_scan(sound().subset([4]))

    assert found.path.spacing_px is None
    assert found.linear_overlap is None
    assert found.detector.photons.shape == (1,)
    findings(found)
