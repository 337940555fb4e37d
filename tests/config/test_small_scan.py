"""What a training does on a scan that is too small for the usual groups and held-out region."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptycho_core.config.overrides import Layer
from ptycho_core.config.payload import ScanFacts, TrainingPayload, resolve_training


def _of_patterns(number: int | None, **overrides: object) -> TrainingPayload:
    facts = ScanFacts(path=Path("scan.npz"), N=64, n_patterns=number)
    return resolve_training(facts, {"n_groups": 4, **overrides}, output_dir=Path("out"))


def _groups_and_share(payload: TrainingPayload) -> tuple[int, float]:
    return payload.tf_training_config.model.gridsize, payload.pt_training_config.validation_fraction


@pytest.mark.parametrize("number", [None, 1000])
def test_a_large_scan_or_one_that_nobody_counted_keeps_the_defaults(number: int | None) -> None:
    """Nothing is said to come from the scan."""
    payload = _of_patterns(number)

    assert _groups_and_share(payload) == (3, 0.1)
    assert payload.provenance["gridsize"].default
    assert payload.provenance["validation_fraction"].default


def test_a_few_patterns_hold_out_more_or_make_smaller_groups() -> None:
    """Of 40 patterns, nine are held out for a group of 3 x 3, instead of four; of ten, one for itself."""
    payload = _of_patterns(40)
    assert _groups_and_share(payload) == (3, 9 / 40)
    assert payload.provenance["validation_fraction"] is Layer.SCAN
    assert payload.provenance["gridsize"].default

    payload = _of_patterns(10)
    assert _groups_and_share(payload) == (1, 0.1)
    assert payload.provenance["gridsize"] is Layer.SCAN


def test_what_somebody_chose_stays() -> None:
    """A chosen gridsize holds out up to half of the scan; with a chosen share as well nothing is moved."""
    assert _groups_and_share(_of_patterns(8, gridsize=2, validation_fraction=0.25)) == (2, 0.25)
    assert _groups_and_share(_of_patterns(20, gridsize=3)) == (3, 9 / 20)
    assert _groups_and_share(_of_patterns(10, gridsize=3)) == (3, 0.1)


def test_a_scan_for_testing_leaves_all_of_this_one_to_the_training(tmp_path: Path) -> None:
    """No region is held out of it, so that no group has to fit into one."""
    assert _groups_and_share(_of_patterns(40, test_data_file=tmp_path / "other.npz")) == (3, 0.1)
