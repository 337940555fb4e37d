"""What a training compares with its predictions: the patterns of each scan, to train on and to validate on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from ptycho_adapters.common.groups import in_scan
from ptycho_adapters.torch_backend.data.resident import Canvas, ResidentScan, group_canvas
from ptycho_core.errors import ScanError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from ptycho_adapters.common.groups import TrainingGroups, TrainingSet


@attrs.frozen(kw_only=True, eq=False)
class Arm:
    """Patterns of one scan.

    Attributes:
        patterns: those that any group uses.
        canvas: holds any of the groups.
        probe: number of the training's scan whose probe they are seen under.
        brightness: factor on that probe's amplitude, where the patterns are of another scan and its flux.
        background: counts per pixel that do not come from the beam.
    """

    patterns: ResidentScan
    canvas: Canvas
    probe: int
    brightness: float = 1.0
    background: float = 0.0


@attrs.frozen(kw_only=True, eq=False)
class Arms:
    """The arms to train on, one for each scan, and those to validate on, often the same ones."""

    training: tuple[Arm, ...]
    validation: tuple[Arm, ...]


def arms_of(data: TrainingSet, *, labelled: bool, find_beam: bool) -> Arms:
    """Bring the patterns of a training into the order of the network.

    Args:
        data: scans and groups.
        labelled: keep the known objects too, for supervised training.
        find_beam: look for the direct beam in each scan, and take out by what it is off the middle. A known object
            goes with a beam that is where it should be.

    Raises:
        ScanError: a known object is wanted, and a scan has none.
    """
    training = tuple(
        _training_arm(data, number, labelled=labelled, find_beam=find_beam) for number in range(len(data.scans))
    )
    if data.validation is None:
        return Arms(training=training, validation=training)
    groups, first = data.groups[0], training[0]
    other = ResidentScan(
        data.validation,
        patterns=groups.of_validation_scan(),
        labelled=labelled,
        find_beam=find_beam and not labelled,
    )
    canvas = _larger(first.canvas, _canvas(other, groups.validation))
    brightness = (other.flux / first.patterns.flux) ** 0.5
    return Arms(
        training=(attrs.evolve(first, canvas=canvas), *training[1:]),
        validation=(Arm(patterns=other, canvas=canvas, probe=first.probe, brightness=brightness),),
    )


def _training_arm(data: TrainingSet, number: int, *, labelled: bool, find_beam: bool) -> Arm:
    groups = data.groups[number]
    try:
        patterns = ResidentScan(
            data.scans[number],
            patterns=groups.of_training_scan(),
            labelled=labelled,
            find_beam=find_beam and not labelled,
        )
    except ScanError as error:
        raise ScanError(error.subject, [in_scan(problem, number, data.scans) for problem in error.problems]) from None
    return Arm(patterns=patterns, canvas=_canvas_of(patterns, groups), probe=number)


def as_found_out(arms: Arms, data: TrainingSet, found: Sequence[tuple[ResidentScan, float]]) -> Arms:
    """Give the arms with what was found out about each training scan.

    Args:
        arms: as the scans have it.
        data: scans and groups.
        found: patterns at their refined positions, and background in counts per pixel, of each training scan.
    """
    training = tuple(
        attrs.evolve(arm, patterns=patterns, background=background, canvas=_canvas_of(patterns, groups))
        for arm, groups, (patterns, background) in zip(arms.training, data.groups, found, strict=True)
    )
    if data.validation is None:
        return Arms(training=training, validation=training)
    # One canvas for both, as large as the larger one.
    (other,) = arms.validation
    canvas = _larger(training[0].canvas, other.canvas)
    return Arms(
        training=(attrs.evolve(training[0], canvas=canvas), *training[1:]),
        validation=(attrs.evolve(other, canvas=canvas, background=training[0].background),),
    )


def _canvas_of(patterns: ResidentScan, groups: TrainingGroups) -> Canvas:
    canvas = _canvas(patterns, groups.train)
    return canvas if groups.apart else _larger(canvas, _canvas(patterns, groups.validation))


def _canvas(patterns: ResidentScan, groups: NDArray[np.int32]) -> Canvas:
    if not len(groups):
        return Canvas(height=0, width=0)
    return group_canvas(patterns.starts_on_host(), groups, patterns.size)


def _larger(one: Canvas, other: Canvas) -> Canvas:
    """Canvas that holds either."""
    return Canvas(height=max(one.height, other.height), width=max(one.width, other.width))
