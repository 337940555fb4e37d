"""Which groups of scan points a training sees, and in what order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
from numpy.typing import NDArray

from ptycho_core.config.small_scan import suited_to
from ptycho_core.errors import ConfigError, Problem, ScanError, raise_if_any
from ptycho_core.measurement.grouping import Grouping, check_grouping, group_positions, group_scan
from ptycho_core.measurement.scan import Scan
from ptycho_core.measurement.splitting import RegionSplit, split_region
from ptycho_core.measurement.suspicions import frames_left_out

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ptycho_core.config.payload import TrainingPayload


@attrs.frozen(kw_only=True, eq=False)
class TrainingGroups:
    """Groups of scan indices.

    Attributes:
        train: (G, C) to train on.
        validation: (G, C) to validate on; may be empty.
        apart: whether the groups to validate on are of another scan.
    """

    train: NDArray[np.int32]
    validation: NDArray[np.int32]
    apart: bool = False

    def of_training_scan(self) -> NDArray[np.int32]:
        """Return the indices (m,) of the training scan that any group uses, sorted."""
        members = [self.train] if self.apart else [self.train, self.validation]
        return np.unique(np.concatenate([each.ravel() for each in members]))

    def of_validation_scan(self) -> NDArray[np.int32]:
        """Return the indices (m,) that the groups to validate on use, sorted."""
        return np.unique(self.validation)

    @property
    def n_patterns(self) -> int:
        """Number of patterns of either scan that any group uses."""
        return len(self.of_training_scan()) + (len(self.of_validation_scan()) if self.apart else 0)


@attrs.frozen(kw_only=True, eq=False)
class TrainingSet:
    """All that a training sees.

    Attributes:
        scans: to train on.
        groups: of each of them.
        validation: another scan to validate on, under the probe of the first one, or None; its groups are in those of
            the first one.
    """

    scans: tuple[Scan, ...]
    groups: tuple[TrainingGroups, ...]
    validation: Scan | None = None

    @property
    def validates(self) -> bool:
        """Whether there is anything to validate on."""
        return any(len(groups.validation) for groups in self.groups)


def training_set_for(
    payload: TrainingPayload,
    scan: Scan | Sequence[Scan],
    *,
    validation: Scan | None = None,
    names: Sequence[str] = (),
) -> TrainingSet:
    """Check that scans suit a training, and draw its groups. Nothing is written.

    Args:
        payload: resolved settings.
        scan: patterns to learn from; a sequence of scans is learned from together.
        validation: another scan of the same instrument to validate on; by default a region of every scan is held out.
        names: what messages are to call the scans, such as their files, that to validate on last; empty for numbers.

    Raises:
        ScanError: a scan does not fit the payload; every misfit is listed.
        ConfigError: the payload asks for what cannot be done, such as more groups than a scan can give.
    """
    scans = (scan,) if isinstance(scan, Scan) else tuple(scan)
    _check(payload, scans, validation)
    return training_set(payload, scans, validation, names=names)


def _check(payload: TrainingPayload, scans: Sequence[Scan], validation: Scan | None) -> None:
    expected = f"{payload.pt_data_config.N} px patterns, as the payload says"
    several = len(scans) != 1
    named = {f"scans[{number}]" if several else "scan": one for number, one in enumerate(scans)}
    problems = [
        Problem(path=f"{name}.N", expected=expected, found=f"{one.N} px")
        for name, one in (named if validation is None else named | {"validation": validation}).items()
        if payload.pt_data_config.N != one.N
    ]
    if not scans:
        problems.append(Problem(path="scans", expected="at least one", found="none"))
    raise_if_any(ScanError, "training", problems)
    if several and payload.pt_training_config.backend == "tensorflow":
        fix = "backend pytorch trains on several scans together"
        problem = Problem(path="scans", expected="one, with backend tensorflow", found=str(len(scans)), fix=fix)
        raise ConfigError("training", [problem])


def training_set(
    payload: TrainingPayload, scans: Sequence[Scan], validation: Scan | None = None, *, names: Sequence[str] = ()
) -> TrainingSet:
    """Draw the groups of every scan, each by itself.

    Args:
        payload: resolved settings; numbers of groups and patterns and the share held out are meant for each scan.
        scans: patterns to train on.
        validation: another scan to validate on instead of a region of each.
        names: what messages are to call the scans, such as their files, that to validate on last; empty for their
            numbers.

    Raises:
        ConfigError: a scan cannot give that many groups, or a region is too small for one; all at once.
    """
    drawn: list[TrainingGroups] = []
    problems: list[Problem] = []
    for number, scan in enumerate(scans):
        try:
            drawn.append(training_groups(payload, scan) if validation is None else _of_whole_scan(payload, scan))
        except ConfigError as error:
            problems += [in_scan(problem, number, scans, names) for problem in error.problems]
    if validation is not None:
        try:
            held_out = group_scan(validation, _at_most(grouping_of(payload), validation.n_patterns)).indices
            # Another scan is validated on once.
            drawn[:1] = [attrs.evolve(groups, validation=held_out) for groups in drawn[:1]]
        except ConfigError as error:
            name = names[len(scans)] if names else "the scan to validate on"
            problems += [attrs.evolve(problem, found=f"{problem.found}, in {name}") for problem in error.problems]
    raise_if_any(ConfigError, "training groups", problems)
    return TrainingSet(scans=tuple(scans), groups=tuple(drawn), validation=validation)


def in_scan(problem: Problem, number: int, scans: Sequence[Scan], names: Sequence[str] = ()) -> Problem:
    """Say in a problem which scan has it: by its name, or by its number if there are several."""
    if not names and len(scans) == 1:
        return problem
    own = scans[number].metadata.name
    where = names[number] if names else f"scan {number + 1}" + (f" ({own})" if own else "")
    return attrs.evolve(problem, found=f"{problem.found}, in {where}")


def training_groups(payload: TrainingPayload, scan: Scan) -> TrainingGroups:
    """Hold out a region, then draw groups on either side of the border: none crosses it.

    Args:
        payload: resolved settings; numbers of groups and patterns are meant for the whole scan and shared out.
        scan: patterns to train on.

    Raises:
        ConfigError: the scan cannot give that many groups, or a region is too small for one.
    """
    grouping = _grouping_for(payload, scan)
    split = split_region(scan.positions_px, held_out_fraction(payload, scan.n_patterns))
    share = len(split.train) / scan.n_patterns
    to_train_on = _share_of(grouping, share)
    raise_if_any(ConfigError, "training groups", list(_problems(grouping, to_train_on, split)))
    inside = group_positions(scan.positions_px[split.train], to_train_on).indices
    if not len(split.validation):
        return TrainingGroups(train=inside, validation=inside[:0])
    few = attrs.evolve(_share_of(grouping, 1 - share), n_groups=grouping.n_groups)
    held_out_px = scan.positions_px[split.validation]
    outside = group_positions(held_out_px, _at_most(few, len(split.validation))).indices
    return TrainingGroups(
        train=split.train[inside].astype(np.int32), validation=split.validation[outside].astype(np.int32)
    )


def held_out_fraction(payload: TrainingPayload, n_patterns: int) -> float:
    """Return the share of a scan to hold out: as set, or where nobody chose it, as large as one group needs."""
    settings = payload.pt_training_config
    return suited_to(
        n_patterns,
        gridsize=payload.tf_training_config.model.gridsize,
        fraction=settings.validation_fraction,
        gridsize_free=False,
        fraction_free=not payload.provenance["validation_fraction"].chosen,
    )[1]


def _of_whole_scan(payload: TrainingPayload, scan: Scan) -> TrainingGroups:
    """Draw groups to train on from all of a scan, no region of which is validated on."""
    groups = group_scan(scan, _grouping_for(payload, scan)).indices
    return TrainingGroups(train=groups, validation=groups[:0], apart=True)


def _grouping_for(payload: TrainingPayload, scan: Scan) -> Grouping:
    """The settings of the group draw; what was meant for frames that were left out is left out with them."""
    grouping, lost = grouping_of(payload), frames_left_out(scan)
    if scan.n_patterns < grouping.n_groups <= scan.n_patterns + lost:
        grouping = attrs.evolve(grouping, n_groups=scan.n_patterns)
    if grouping.n_subsample is not None and scan.n_patterns < grouping.n_subsample <= scan.n_patterns + lost:
        grouping = attrs.evolve(grouping, n_subsample=scan.n_patterns)
    return grouping


def grouping_of(payload: TrainingPayload) -> Grouping:
    """Collect the settings of the group draw."""
    config, data = payload.pt_training_config, payload.pt_data_config
    return Grouping(
        n_groups=payload.tf_training_config.n_groups,
        gridsize=payload.tf_training_config.model.gridsize,
        neighbor_count=data.K,
        seed=config.seed if data.subsample_seed is None else data.subsample_seed,
        n_subsample=config.n_subsample,
        enable_oversampling=config.enable_oversampling,
        neighbor_pool_size=config.neighbor_pool_size,
        sequential_sampling=config.sequential_sampling,
    )


def batches_of_epoch(
    counts: Sequence[int], batch_size: int, random: np.random.Generator | None
) -> Iterator[tuple[int, list[int]]]:
    """Yield the batches of one epoch, each of one scan: its number, and the numbers of the groups among its own.

    Args:
        counts: number of groups of each scan.
        batch_size: groups in a batch; the last one of a scan has what is left.
        random: shuffles groups and turns; None keeps all in order, scan after scan.
    """
    orders, turns = [np.arange(count) for count in counts], scan_of_batches(counts, batch_size)
    if random is not None:
        orders = [random.permutation(order) for order in orders]
        turns = random.permutation(turns)
    starts = [iter(range(0, count, batch_size)) for count in counts]
    for scan in turns.tolist():
        start = next(starts[scan])
        yield scan, orders[scan][start : start + batch_size].tolist()


def scan_of_batches(counts: Sequence[int], batch_size: int) -> NDArray[np.int64]:
    """Return the scan of each batch of an epoch, scan after scan."""
    batches = [-(-count // batch_size) for count in counts]
    return np.repeat(np.arange(len(batches)), batches)


def random_of_epoch(seed: int | None, epoch: int) -> np.random.Generator | None:
    """Return what shuffles an epoch: it depends on both alone, so that a resumed run meets the same batches."""
    return None if seed is None else np.random.default_rng((seed, epoch))


def _share_of(grouping: Grouping, share: float) -> Grouping:
    """Share out numbers that are meant for the whole scan."""
    patterns = grouping.n_subsample
    return attrs.evolve(
        grouping,
        n_groups=max(1, round(grouping.n_groups * share)),
        n_subsample=None if patterns is None else max(grouping.C, round(patterns * share)),
    )


def _at_most(grouping: Grouping, n_patterns: int) -> Grouping:
    """Ask for no more than this many patterns and one group for each."""
    patterns = n_patterns if grouping.n_subsample is None else min(grouping.n_subsample, n_patterns)
    return attrs.evolve(grouping, n_groups=min(grouping.n_groups, patterns), n_subsample=patterns)


def _problems(grouping: Grouping, to_train_on: Grouping, split: RegionSplit) -> Iterator[Problem]:
    """Say what cannot be had of the whole scan, since numbers are meant for it, or else of what is not held out."""
    held_out, rest = len(split.validation), len(split.train)
    total = held_out + rest
    if 0 < held_out < grouping.C:
        yield Problem(
            path="validation_fraction",
            expected=f"0, or a share of the {total} patterns that holds a group of C = gridsize² = {grouping.C}",
            found=f"one of {held_out} patterns",
        )
    whole = _refusals(total, grouping)
    yield from whole
    for problem in () if whole else _refusals(rest, to_train_on):
        where = f"the {rest} of {total} patterns that are not held out"
        yield attrs.evolve(problem, found=f"{problem.found}, for {where}")


def _refusals(n_patterns: int, grouping: Grouping) -> tuple[Problem, ...]:
    try:
        check_grouping(n_patterns, grouping)
    except ConfigError as error:
        return error.problems
    return ()
