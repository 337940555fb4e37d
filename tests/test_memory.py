"""Memory: sums that can be checked by hand, refusals that say what would help, and the limits of containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import psutil
import pytest

from ptycho_adapters.machine import available_memory
from ptycho_core.memory import (
    FinishSize,
    MemoryDemand,
    MemoryShortageError,
    Remedy,
    ScanSize,
    check_memory,
    finish_demand,
    in_units,
    reconstruction_demand,
    resident_demand,
    training_demand,
)

if TYPE_CHECKING:
    from pathlib import Path

SCAN = ScanSize(n_patterns=100, size_px=64)


def test_demands_are_sums_over_arrays() -> None:
    """The patterns are held three times as float32 while they are brought to the device."""
    assert resident_demand(SCAN).total == 3 * 4 * 100 * 64 * 64


def test_counts_of_two_bytes_need_half() -> None:
    """What was measured as uint16 stays so."""
    assert resident_demand(attrs.evolve(SCAN, count_bytes=2)).total == resident_demand(SCAN).total // 2


def test_a_training_grows_with_its_batch_alone() -> None:
    """Twice the batch keeps twice as much for the gradient; weights count once."""
    small, large = (training_demand(kept_bytes=1000, batch_size=size, n_weights=10) for size in (8, 16))
    key = "a batch kept for its gradient"

    assert (small.parts[key], large.parts[key]) == (8000, 16000)
    assert small.parts["weights and optimiser"] == large.parts["weights and optimiser"] == 200


def test_a_reconstruction_grows_with_its_canvas() -> None:
    """The canvas and a network that sees it whole need as much more as there are more pixels."""
    small, large = (
        reconstruction_demand(SCAN, canvas_px=size, network_px=size, network_bytes_per_px=100.0)
        for size in (10**6, 10**7)
    )

    assert large.parts["canvas"] == 10 * small.parts["canvas"]
    assert large.parts["network"] == 10 * small.parts["network"]
    assert large.parts["fields of the patterns"] == small.parts["fields of the patterns"]


def test_a_finish_grows_with_what_it_remembers_and_solves_for() -> None:
    """Steps and slopes of object and probe, and a dense matrix of two unknowns a node, in double precision."""
    size = FinishSize(canvas_px=10_000, remembered=8, nodes=500, tents_per_patch=36, batch_size=8, slow_batch_size=8)

    parts = finish_demand(SCAN, size).parts

    assert parts["changes that the descent remembers"] == 8 * 2 * 8 * (10_000 + 64 * 64)
    assert parts["matrix of the slow waves"] == 5 * 8 * 1000 * 1000
    assert parts["a batch of patterns"] >= 2 * 4 * 72 * 8 * 64 * 64


def test_images_that_are_handed_on_count_for_the_canvas() -> None:
    """Four bytes a pixel for each of them."""
    plain, with_channels = (
        reconstruction_demand(SCAN, canvas_px=10**6, network_px=10, network_bytes_per_px=1.0, channels=channels)
        for channels in (0, 7)
    )

    assert with_channels.total - plain.total == 4 * 7 * 10**6


def demand(number: int) -> MemoryDemand:
    return MemoryDemand(parts={"things": 1000 * number, "more": 500})


def test_what_fits_is_not_refused() -> None:
    """Exactly as much as is free is enough."""
    check_memory("the run", demand(4), 4500)


@pytest.mark.parametrize(("free", "proposed"), [(4499, "--size 2 (needs 2.5 kB)"), (1600, "--size 1 (needs 1.5 kB)")])
def test_a_refusal_says_what_is_needed_what_is_there_and_what_would_fit(free: int, proposed: str) -> None:
    """The message names both amounts, the parts, and the largest smaller number that fits."""
    remedy = Remedy(action="--size {}", largest=4, demand=demand)

    with pytest.raises(MemoryShortageError, match="does not fit into memory") as caught:
        check_memory("the run", demand(4), free, [remedy])

    (problem,) = caught.value.problems
    assert problem.found == "4.5 kB (things 4 kB, more 500 bytes)"
    assert in_units(free) in problem.expected
    assert problem.fix == proposed


def test_where_nothing_helps_the_machine_is_too_small() -> None:
    """No number is proposed that would not fit either."""
    with pytest.raises(MemoryShortageError) as caught:
        check_memory("the run", demand(4), 100, [Remedy(action="--size {}", largest=4, demand=demand)])

    assert caught.value.problems[0].fix == "use a machine with more memory"


def test_nothing_below_the_least_useful_number_is_proposed() -> None:
    """A number that fits and would be refused for another reason is no way out."""
    remedy = Remedy(action="--size {}", largest=4, smallest=2, demand=demand)

    with pytest.raises(MemoryShortageError) as caught:
        check_memory("the run", demand(4), 1600, [remedy])

    assert caught.value.problems[0].fix == "use a machine with more memory"


@pytest.mark.parametrize("largest", [2, 3, 4, 5, 8, 9, 1000])
def test_a_proposal_is_smaller_than_what_was_asked_for(largest: int) -> None:
    """Whatever the number was, the proposed one is below it and a power of two."""
    with pytest.raises(MemoryShortageError) as caught:
        check_memory(
            "x", demand(largest), demand(largest).total - 1, [Remedy(action="{}", largest=largest, demand=demand)]
        )

    number = int(caught.value.problems[0].fix.split(" ")[0])
    assert number < largest
    assert number & (number - 1) == 0
    assert 2 * number >= largest


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (128_000_000_000, "128 GB"), (10**16, "1e+04 TB")],
)
def test_units_are_decimal(size: int, text: str) -> None:
    """Sizes are told as disks and memory are sold."""
    assert in_units(size) == text


def group(folder: Path, *, limit: str, use: str, reclaimable: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(limit + "\n")
    (folder / "memory.current").write_text(use + "\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {reclaimable}\n")


def test_without_groups_the_system_decides(tmp_path: Path) -> None:
    """Where no control group is mounted, what the system has available counts."""
    found = available_memory(groups=tmp_path, own_group=tmp_path / "none")

    assert found == pytest.approx(psutil.virtual_memory().available, rel=0.2)


def test_a_container_allows_less(tmp_path: Path) -> None:
    """Limit less use, plus what the kernel can take back, of the tightest group on the way to the root."""
    own = tmp_path / "own"
    own.write_text("0::/batch/job\n")
    group(tmp_path / "g", limit="max", use="1")
    group(tmp_path / "g" / "batch", limit="9000000", use="2000000")
    group(tmp_path / "g" / "batch" / "job", limit="5000000", use="4000000", reclaimable=300_000)

    assert available_memory(groups=tmp_path / "g", own_group=own) == 1_300_000


def test_older_groups_are_read_too(tmp_path: Path) -> None:
    """Version 1 keeps its limits in other files, below the controller's name."""
    own = tmp_path / "own"
    own.write_text("7:memory:/job\n3:cpu,cpuacct:/job\n")
    folder = tmp_path / "g" / "memory" / "job"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text("7000\n")
    (folder / "memory.usage_in_bytes").write_text("3000\n")

    assert available_memory(groups=tmp_path / "g", own_group=own) == 4000


def test_a_group_over_its_limit_allows_nothing(tmp_path: Path) -> None:
    """There is no negative memory."""
    group(tmp_path / "g", limit="10", use="20")
    (tmp_path / "own").write_text("0::/\n")

    assert available_memory(groups=tmp_path / "g", own_group=tmp_path / "own") == 0
