"""Laws of the groups and held-out regions of small scans: every scan of ten patterns or more can be trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ptycho_adapters.common.groups import training_set
from ptycho_core.config.overrides import Layer
from ptycho_core.config.payload import ScanFacts, TrainingPayload, resolve_training
from ptycho_core.config.small_scan import suited_to
from ptycho_core.measurement.scan import Scan

SIZES = st.integers(10, 90)


def _scan(n_patterns: int, seed: int) -> Scan:
    """A scan of one blank pattern many times at random positions; groups look at nothing else."""
    rng = np.random.default_rng(seed)
    pattern = np.ones((1, 64, 64), np.float32)
    return Scan(
        patterns=np.repeat(pattern, n_patterns, axis=0),
        domain="amplitude",
        positions_px=rng.uniform(40, 200, (n_patterns, 2)),
        probe=np.ones((1, 64, 64), np.complex64),
    )


def _payload(n_patterns: int, **settings: object) -> TrainingPayload:
    facts = ScanFacts(path=Path("scan.npz"), N=64, n_patterns=n_patterns)
    return resolve_training(facts, {"n_groups": n_patterns, **settings}, output_dir=Path("out"))


@given(SIZES, st.integers(0, 2**16))
@example(10, 0)
@example(90, 0)
def test_scans_of_ten_to_ninety_patterns_train_as_they_are(n_patterns: int, seed: int) -> None:
    """With as many groups as patterns and nothing else said, whole groups lie on either side of the border."""
    payload = _payload(n_patterns)

    (groups,) = training_set(payload, [_scan(n_patterns, seed)]).groups

    assert groups.train.shape[1] == groups.validation.shape[1] == payload.tf_training_config.model.C
    held_out = round(n_patterns * payload.pt_training_config.validation_fraction)
    assert len(groups.train) == n_patterns - held_out
    assert 1 <= len(np.unique(groups.validation)) <= held_out <= max(n_patterns / 4, 1)
    assert not set(groups.train.ravel().tolist()) & set(groups.validation.ravel().tolist())


@given(SIZES, st.integers(0, 2**16))
def test_a_scan_that_lost_patterns_after_planning_still_trains(n_patterns: int, lost: int) -> None:
    """The share held out follows the patterns that are there, up to half of them."""
    left = n_patterns - lost % (n_patterns // 4)
    payload = _payload(n_patterns, n_groups=left)
    assume(left >= 2 * payload.tf_training_config.model.C)

    (groups,) = training_set(payload, [_scan(left, lost)]).groups

    assert len(groups.train) >= 1 <= len(groups.validation)


@given(st.integers(1, 500), st.integers(1, 5), st.floats(0, 0.5))
def test_large_enough_scans_are_left_alone(n_patterns: int, gridsize: int, fraction: float) -> None:
    """Where a group fits on either side, or nothing is free to move, both stay."""
    held_out, size = round(fraction * n_patterns), gridsize**2
    fits = n_patterns - held_out >= size and (held_out == 0 or held_out >= size)

    found = suited_to(n_patterns, gridsize=gridsize, fraction=fraction, gridsize_free=fits, fraction_free=fits)

    assert found == (gridsize, fraction)


@given(st.integers(1, 500), st.integers(1, 5), st.floats(0, 0.5), st.booleans())
def test_what_was_chosen_stays(n_patterns: int, gridsize: int, fraction: float, of_grid: bool) -> None:
    """A chosen gridsize moves the share alone, up to half, and never below the one set; the other way round too."""
    side, share = suited_to(
        n_patterns, gridsize=gridsize, fraction=fraction, gridsize_free=not of_grid, fraction_free=of_grid
    )

    assert side == gridsize if of_grid else share == fraction
    assert side <= gridsize
    assert fraction <= share <= 0.5


@pytest.mark.parametrize(
    ("n_patterns", "gridsize", "fraction"),
    [
        (10, 1, 0.1),
        (15, 1, 0.1),
        (16, 2, 0.25),
        (34, 2, 4 / 34),
        (35, 2, 0.1),
        (36, 3, 0.25),
        (84, 3, 9 / 84),
        (85, 3, 9 / 85),
        (90, 3, 0.1),
    ],
)
def test_groups_of_small_scans(n_patterns: int, gridsize: int, fraction: float) -> None:
    """The usual groups of nine as long as a quarter holds one, then groups of four, then single patterns."""
    payload = _payload(n_patterns)

    assert payload.tf_training_config.model.gridsize == gridsize
    assert payload.pt_training_config.validation_fraction == fraction
    assert (payload.provenance["gridsize"] is Layer.SCAN) is (gridsize != 3)
    assert (payload.provenance["validation_fraction"] is Layer.SCAN) is (fraction != 0.1)


def test_chosen_settings_are_not_adapted() -> None:
    """A chosen gridsize and share stay, whatever the scan; a scan to validate on leaves the share without meaning."""
    chosen = _payload(20, gridsize=3, validation_fraction=0.1)
    apart = _payload(20, test_data_file=Path("other.npz"))

    for payload in (chosen, apart):
        assert payload.tf_training_config.model.gridsize == 3
        assert payload.pt_training_config.validation_fraction == 0.1


def test_a_scan_of_unknown_size_is_not_adapted() -> None:
    """Where the header does not count patterns, the usual settings are planned with."""
    facts = ScanFacts(path=Path("scan.npz"), N=64)

    payload = resolve_training(facts, {"n_groups": 20}, output_dir=Path("out"))

    assert payload.tf_training_config.model.gridsize == 3
