"""Laws of simulation: any lawful configuration gives a lawful scan, any other one a readable error."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ptycho_core.errors import ConfigError
from ptycho_core.physics.optics import extract_patches
from ptycho_core.physics.probes import ProbeKind
from ptycho_core.simulation.objects import ObjectKind
from ptycho_core.simulation.scan_paths import PathKind
from ptycho_core.simulation.simulate import SimulationConfig, simulate

configs = st.builds(
    SimulationConfig,
    N=st.sampled_from([16, 32]),
    object_kind=st.sampled_from(ObjectKind),
    object_size_px=st.integers(48, 64),
    phase_range_rad=st.floats(-3, 3),
    amplitude_min=st.floats(0, 1),
    probe_kind=st.sampled_from(ProbeKind),
    n_modes=st.integers(1, 3),
    aberration_rad=st.floats(0, 1),
    photons=st.floats(1e3, 1e6),
    background=st.floats(0.001, 2),
    path=st.sampled_from(PathKind),
    step_px=st.floats(3, 8),
    jitter_px=st.floats(0, 3),
    whole_pixel=st.booleans(),
    seed=st.integers(0, 2**40),
)


@settings(max_examples=25, deadline=None)
@given(configs)
def test_lawful_configurations_simulate(config: SimulationConfig) -> None:
    """Every patch lies on the object, the probe carries the photons, and a repeat is identical."""
    scan, again = simulate(config), simulate(config)

    assert scan.object is not None
    assert extract_patches(scan.object, scan.positions_px, config.N).shape == scan.patterns.shape
    np.testing.assert_allclose(np.sum(np.abs(scan.probe.astype(complex)) ** 2), config.photons, rtol=1e-5)
    np.testing.assert_array_equal(scan.patterns, again.patterns)


anything = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.integers()))
fields = st.sampled_from([field.name for field in SimulationConfig.__attrs_attrs__])


@given(st.dictionaries(fields, anything, min_size=1))
def test_validation_is_total(values: dict[str, object]) -> None:
    """Any value for any field gives a configuration or a ConfigError that names only fields that were given.

    The object's size may be named too: it has to suit the others.
    """
    named: set[str] = set()
    try:
        SimulationConfig(**values)  # type: ignore[arg-type]
    except ConfigError as error:
        named = {problem.path for problem in error.problems}

    assert named <= set(values) | {"object_size_px"}
