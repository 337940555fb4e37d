"""Laws of the order of batches: complete, of one scan each, and a function of seed and epoch alone."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ptycho_adapters.torch_backend.data.groups import EpochBatches

counts = st.lists(st.integers(0, 40), min_size=1, max_size=5)
sizes = st.integers(1, 9)
seeds = st.integers(0, 2**40)
epochs = st.integers(0, 1000)


def _batches(counts: list[int], size: int, seed: int | None, epoch: int) -> list[tuple[int, list[int]]]:
    order = EpochBatches(counts, batch_size=size, seed=seed)
    order.set_epoch(epoch)
    return list(order)


@given(counts, sizes, st.none() | seeds, epochs)
def test_every_group_of_every_scan_comes_once(counts: list[int], size: int, seed: int | None, epoch: int) -> None:
    """In batches of one scan each, all full but the last one of a scan, as many as were announced."""
    batches = _batches(counts, size, seed, epoch)

    assert Counter((scan, row) for scan, rows in batches for row in rows) == Counter(
        (scan, row) for scan, count in enumerate(counts) for row in range(count)
    )
    assert len(batches) == len(EpochBatches(counts, batch_size=size, seed=seed))
    for scan, count in enumerate(counts):
        lengths = [len(rows) for number, rows in batches if number == scan]
        assert lengths == [min(size, count - first) for first in range(0, count, size)]


@given(counts, sizes, seeds, epochs, st.lists(epochs, max_size=3))
def test_the_order_depends_on_seed_and_epoch_alone(
    counts: list[int], size: int, seed: int, epoch: int, earlier: list[int]
) -> None:
    """Whatever epochs went before, as in a run that is taken up again."""
    order = EpochBatches(counts, batch_size=size, seed=seed)
    for other in earlier:
        order.set_epoch(other)
        list(order)
    order.set_epoch(epoch)

    assert list(order) == list(order) == _batches(counts, size, seed, epoch)


@given(counts, sizes, epochs)
def test_without_a_seed_all_stays_in_order(counts: list[int], size: int, epoch: int) -> None:
    """Scan after scan, group after group, in every epoch."""
    seen = [(scan, row) for scan, rows in _batches(counts, size, None, epoch) for row in rows]

    assert seen == sorted(seen)


@given(st.integers(30, 60), st.integers(30, 60), seeds, epochs)
def test_scans_are_mixed_and_epochs_differ(first: int, second: int, seed: int, epoch: int) -> None:
    """No scan is left for the end of an epoch, and the next epoch has another order, of scans and of groups."""
    now, after = (_batches([first, second], 1, seed, each) for each in (epoch, epoch + 1))
    turns = [scan for scan, _ in now]

    assert turns not in ([0] * first + [1] * second, [1] * second + [0] * first)
    assert turns != [scan for scan, _ in after]
    for scan in (0, 1):
        assert [rows for number, rows in now if number == scan] != [rows for number, rows in after if number == scan]


@given(st.integers(1, 60), sizes, seeds, epochs, st.lists(st.integers(1, 20), max_size=2))
def test_the_first_scan_comes_in_the_order_it_has_alone(
    count: int, size: int, seed: int, epoch: int, others: list[int]
) -> None:
    """Further scans come in between and change nothing about it."""
    together = _batches([count, *others], size, seed, epoch)

    assert [batch for batch in together if batch[0] == 0] == _batches([count], size, seed, epoch)
