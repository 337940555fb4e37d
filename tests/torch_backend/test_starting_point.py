"""What a training finds out about its scans before the first step, and that it says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ptycho_core.measurement.findings import Suspicion
from ptycho_core.physics.subpixel import scan_counts
from ptycho_core.simulation.simulate import SimulationConfig, simulate
from torch_sample import module_of, payload_for

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ptycho_adapters.torch_backend.training.module import PtychoModule
    from ptycho_core.measurement.scan import Scan

SETTINGS: Mapping[str, object] = {
    "architecture": "unrolled",
    "n_filters_scale": 2,
    "unrolled_steps": 6,
    "unrolled_repeats": 0,
    "probe_rounds": 2,
    "n_groups": 25,
    "gridsize": 1,
    "validation_fraction": 0.0,
}

FLICKER = np.random.default_rng(2).uniform(0.4, 1.0, 25)


@pytest.fixture(scope="module")
def scan() -> Scan:
    """A small scan without a fault."""
    return simulate(SimulationConfig(object_size_px=94, step_px=6.0, photons=1e5, background=2.0, seed=3))


def _module(folder: Path, scan: Scan, **overrides: object) -> PtychoModule:
    return module_of(payload_for(folder, {**SETTINGS, **overrides}), scan)


LEFT: Mapping[str, object] = {
    "beam_search": False,
    "background_counts": 0.0,
    "position_refinement": "none",
    "orientation_search": "never",
    "probe_search": "never",
    "flux_search": "never",
    "blur_search": "never",
    "probe_modes": 2,
}
SAID: Mapping[str, Suspicion] = {
    "beam_search": Suspicion.BEAM_MOVED,
    "background_counts": Suspicion.BACKGROUND,
    "position_refinement": Suspicion.POSITIONS_REFINED,
    "orientation_search": Suspicion.ORIENTATION,
    "probe_search": Suspicion.PROBE_REPLACED,
    "flux_search": Suspicion.FRAME_FLUX,
    "blur_search": Suspicion.PROBE_MODES,
}


@pytest.mark.parametrize("setting", LEFT)
def test_a_training_finds_out_what_it_is_asked_to(setting: str, scan: Scan, tmp_path: Path) -> None:
    """Patterns, positions, background and probe that it starts from are those that were found, or as they were.

    What was put right is said, and nothing else of it.
    """
    faulty = _with_fault(scan, setting)

    # The background is there in any case, and costs little to be found.
    others: dict[str, object] = {**LEFT, "background_counts": None, "probe_modes": 1}
    del others[setting]
    if setting == "blur_search":
        del others["probe_modes"]
    if setting == "probe_search":
        others["unrolled_repeats"] = 2  # with fewer steps the network does not tell such a probe from a better one

    found, other = (_module(tmp_path, faulty, **others, **more) for more in ({}, {setting: LEFT[setting]}))

    if setting in SAID:
        said, unsaid = ({each.kind for each in module.findings[0]} for module in (found, other))
        assert SAID[setting] in said
        assert SAID[setting] not in unsaid
    arm, as_left = found.arms.training[0], other.arms.training[0]
    if setting == "beam_search":
        assert (arm.patterns.beam_px, as_left.patterns.beam_px) == ((4, 3), (0, 0))
    elif setting == "background_counts":
        assert arm.background == pytest.approx(2.0, abs=0.3)
        assert as_left.background == 0.0
    elif setting == "flux_search":
        assert arm.patterns.relative_flux is not None
        assert np.std(np.log(arm.patterns.relative_flux.numpy() / FLICKER)) < 0.05
        assert as_left.patterns.relative_flux is None
    elif setting in ("position_refinement", "orientation_search"):
        places, kept = (each.patterns.starts.numpy() + each.patterns.fractions_px.numpy() for each in (arm, as_left))
        assert np.abs((places - places.mean(axis=0)) - (kept - kept.mean(axis=0))).max() > 0.5
    else:
        one, two = (module.probes[0]().detach().numpy() for module in (found, other))
        assert one.shape != two.shape or abs(np.vdot(one, two)) < 0.9 * np.linalg.norm(one) * np.linalg.norm(two)


def _with_fault(scan: Scan, setting: str) -> Scan:
    places, patterns, rng = scan.positions_px, scan.patterns, np.random.default_rng(3)
    match setting:
        case "beam_search":
            patterns = np.roll(patterns, (4, 3), axis=(1, 2))
        case "position_refinement":
            places = places + np.random.default_rng(1).normal(0.0, 1.0, places.shape)
        case "orientation_search":
            places = places[:, ::-1]
        case "flux_search":
            patterns = rng.binomial(patterns.astype(np.int64), FLICKER[:, None, None]).astype(np.uint16)
        case "blur_search":
            assert scan.object is not None
            sharp = scan_counts(scan.object, 3.0 * scan.probe, places, background=2.0)  # the more light, the clearer
            patterns = rng.poisson(gaussian_filter(sharp, (0.0, 1.0, 1.0))).astype(np.uint16)
        case "probe_search":
            y, x = np.mgrid[:64, :64] - 31.5
            guess = np.exp(-(y**2 + x**2) / (2 * 6.0**2)).astype(np.complex64)[None]
            scan = attrs.evolve(scan, probe=guess * (np.linalg.norm(scan.probe) / np.linalg.norm(guess)))
        case _:
            pass  # modes are no fault
    return attrs.evolve(scan, positions_px=places, patterns=patterns)
