"""Laws of inspection: what a scan is does not depend on the order of its frames nor on where the stage's zero lies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ptycho_core.measurement.inspection import inspect_scan
from ptycho_core.measurement.suspicions import findings
from ptycho_core.memory import MemoryDemand, MemoryShortageError, Remedy, check_memory
from strategies_scan import scan_at, scans

if TYPE_CHECKING:
    from random import Random

    from ptycho_core.measurement.scan import Scan


def _lit_beside_a_corner() -> Scan:
    """All light in the first pixel but for what rounds away: its centre on a ring is a hair before zero."""
    tiny = np.finfo(np.float32).tiny
    pattern = np.full((1, 3, 3), tiny, dtype=np.float32)
    pattern[0, 0, :2] = 1.0, 0.0
    return attrs.evolve(scan_at(np.zeros((1, 2))), patterns=pattern, probe=np.ones((3, 3), dtype=np.complex64))


@given(scans(), st.randoms(use_true_random=False))
def test_the_order_of_frames_does_not_matter(scan: Scan, random: Random) -> None:
    """Frames in another order have the same facts, and their fluxes in that order."""
    order = list(range(scan.n_patterns))
    random.shuffle(order)

    one, other = inspect_scan(scan), inspect_scan(scan.subset(order))

    np.testing.assert_allclose(other.detector.photons, one.detector.photons[order], rtol=1e-12)
    np.testing.assert_allclose(other.detector.mean, one.detector.mean, rtol=1e-9, atol=1e-12)
    assert (other.detector.largest, other.detector.n_largest) == (one.detector.largest, one.detector.n_largest)
    assert other.detector.n_repeated == one.detector.n_repeated
    assert other.path.n_duplicates == one.path.n_duplicates
    if one.path.spacing_px is not None:
        assert other.path.spacing_px == pytest.approx(one.path.spacing_px)


@given(scans())
@example(_lit_beside_a_corner())
def test_every_scan_can_be_inspected(scan: Scan) -> None:
    """Whatever is a scan has facts that are finite, shares that add up to one, and findings that are sentences."""
    found = inspect_scan(scan)

    assert np.isfinite(found.detector.photons).all()
    assert sum(found.probe.power_shares) == pytest.approx(1.0)
    assert found.probe.diameter_px >= 1.0
    assert 0.0 <= found.probe.rim_share <= 1.0 + 1e-9
    assert all(0.0 <= centre < scan.N for centre in found.centre_px)
    assert all(finding.text for finding in findings(found))


@given(scans(), st.tuples(st.integers(-(2**20), 2**20), st.integers(-(2**20), 2**20)))
def test_the_zero_of_the_stage_does_not_matter(scan: Scan, shift: tuple[int, int]) -> None:
    """Positions moved by whole pixels are as far from each other as before."""
    moved = attrs.evolve(scan, positions_px=scan.positions_px + np.asarray(shift, dtype=np.float64))

    one, other = inspect_scan(scan).path, inspect_scan(moved).path

    np.testing.assert_allclose(other.extent_px, one.extent_px, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(other.nearest_px, one.nearest_px, rtol=1e-6, atol=1e-6)


@given(st.integers(1, 2**20), st.integers(1, 2**30), st.integers(1, 2**10))
def test_what_is_proposed_fits(largest: int, free: int, each: int) -> None:
    """A shortage is reported exactly where there is one, and the number that it proposes would not be refused."""

    def demand(number: int) -> MemoryDemand:
        return MemoryDemand(parts={"all": number * each})

    if demand(largest).total <= free:
        check_memory("it", demand(largest), free, [Remedy(action="{}", largest=largest, demand=demand)])
        return
    with pytest.raises(MemoryShortageError) as caught:
        check_memory("it", demand(largest), free, [Remedy(action="{}", largest=largest, demand=demand)])
    fix = caught.value.problems[0].fix
    if free >= each:
        number = int(fix.split(" ")[0])
        check_memory("it", demand(number), free)
        assert number < largest
    else:
        assert fix == "use a machine with more memory"
