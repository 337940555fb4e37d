"""What a training starts from: the weights of the network, and a probe for each scan."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch
from torch import Tensor

from ptycho_adapters.common.schedule import Clock, Pieces, TimeLimit
from ptycho_adapters.common.shipped import starts_from_shipped
from ptycho_adapters.stages import stage
from ptycho_adapters.torch_backend.data.resident import ResidentScan
from ptycho_adapters.torch_backend.execution import precision_on
from ptycho_adapters.torch_backend.generalist import pretrained_generator
from ptycho_adapters.torch_backend.generators import Generator, build_generator
from ptycho_adapters.torch_backend.inference.findings import findings_before_a_training
from ptycho_adapters.torch_backend.inference.preparation import Preparation, prepare
from ptycho_adapters.torch_backend.inference.turns import ROUNDS_BEFORE_A_TRAINING, moves_of_the_stage
from ptycho_adapters.torch_backend.inference.whole_scan import PassFactory, WholeScan
from ptycho_adapters.torch_backend.physics.optics import light_of
from ptycho_adapters.torch_backend.physics.probe import TrainableProbe, soft_disc
from ptycho_adapters.torch_backend.sharing import told_by_the_first
from ptycho_adapters.torch_backend.training.probe_work import ROUND_PASSES, ProbeWork, work_within
from ptycho_core.errors import ConfigError, Problem
from ptycho_core.measurement.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ptycho_adapters.crew import Crew
    from ptycho_core.config.payload import TrainingPayload
    from ptycho_core.measurement.scan import Scan

_log = logging.getLogger(__name__)
_PACE_PATTERNS = 8  # that a pass is timed on


@attrs.frozen(kw_only=True, eq=False)
class StartingNetwork:
    """A generator, and whether its weights know diffraction patterns already."""

    generator: Generator
    pretrained: bool


def starting_network(payload: TrainingPayload) -> StartingNetwork:
    """Build the generator with the weights that a training starts from.

    Raises:
        ConfigError: the shipped weights are asked for and do not fit, or no generator of that name is registered.
    """
    model = payload.pt_model_config
    if starts_from_shipped(payload):
        return StartingNetwork(generator=pretrained_generator(model).train(), pretrained=True)
    precision = precision_on(payload.execution_config)
    generator = build_generator(model, payload.pt_data_config, precision=precision)
    return StartingNetwork(generator=generator, pretrained=False)


@attrs.frozen(kw_only=True, eq=False)
class StartingScan:
    """What a training starts from in one scan.

    Attributes:
        probe: to be trained, if it may.
        patterns: at their refined positions.
        background: counts per pixel that do not come from the beam.
        settled: whether the probe had a round, where any were meant for it.
        findings: what was put right.
    """

    probe: TrainableProbe
    patterns: ResidentScan
    background: float
    settled: bool = True
    findings: tuple[Finding, ...] = ()


def starting_scan(
    payload: TrainingPayload,
    scan: Scan,
    resident: ResidentScan,
    groups: NDArray[np.int32],
    start: StartingNetwork,
    time: ProbeTime | None = None,
) -> StartingScan:
    """Find out about a scan what is asked for: its background and, under a network that can, probe and positions.

    Args:
        payload: resolved settings.
        scan: whose probe it is.
        resident: its patterns.
        groups: (G, C) scan indices that are trained on; no other pattern is looked at.
        start: the network.
        time: that there is for it. Where it is short, fewer patterns are looked at, in fewer rounds.

    Raises:
        ConfigError: the probe's mask leaves no light.
    """
    settings, mask = payload.pt_training_config, probe_mask(payload)
    if mask is not None and not (mask.numpy() * scan.probe).any():
        problem = Problem(path="probe_mask", expected="a mask that lets light pass", found="one that stops all of it")
        raise ConfigError("training", [problem])
    patterns = np.unique(groups).astype(np.int64)
    probe = TrainableProbe(scan.probe, resident.flux, mask)
    make_pass = PassFactory(start.generator, resident, patterns, payload.execution_config, payload.pt_inference_config)
    time = time or ProbeTime(limit=TimeLimit())
    wanted = _wanted_work(payload, start, len(patterns))
    given = probe().detach().numpy()
    work, round_s = time.suited(wanted, lambda few: make_pass(given, few).stitch(), resident, patterns)
    whose = scan.metadata.name or "the probe"
    _log.info("%s: %s", whose, work)
    few = _around_the_middle(resident, patterns, work.round_patterns)
    enough = Pieces(time.limit, time.until, round_s)
    wished = _preparation_for(payload, start, work, enough, whole=len(few) == len(patterns))
    with stage("preparation", scan=whose, patterns=len(few)):
        found = prepare(make_pass(given, few), wished)
    if found.focus_rad:
        _log.info("focus of %s changed by %.2f rad (root mean square)", whose, found.focus_rad)
    run = found.run
    refined = settings.probe_trainable and (found.focus_rad or found.probe_refined)
    changed = refined or len(run.probe) != len(scan.probe)
    return StartingScan(
        probe=TrainableProbe(run.probe.numpy() if changed else scan.probe, float(light_of(run.probe).sum()), mask),
        patterns=_with_others_moved(run, resident, few),
        background=run.background,
        settled=not wanted.rounds or found.probe_refined or found.probe_stays,
        findings=tuple(findings_before_a_training(found)),
    )


def started_alike(found: Sequence[StartingScan], as_read: Sequence[ResidentScan], crew: Crew) -> list[StartingScan]:
    """Give every process what the first one has found out about each scan.

    Args:
        found: by the first process; nothing by the others.
        as_read: the patterns of each scan, of which every process has its own.
        crew: all of them.
    """
    if crew.count == 1:
        return list(found)
    told = told_by_the_first([_Told.of(each) for each in found], crew)
    return [each.starting(patterns) for patterns, each in zip(as_read, told, strict=True)]


@attrs.frozen(kw_only=True, eq=False)
class _Told:
    """What was found out about a scan, without its counts, which every process has."""

    probe: TrainableProbe
    starts: Tensor
    fractions_px: Tensor
    relative_flux: Tensor | None
    background: float
    settled: bool
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, found: StartingScan) -> _Told:
        return cls(
            probe=found.probe,
            starts=found.patterns.starts,
            fractions_px=found.patterns.fractions_px,
            relative_flux=found.patterns.relative_flux,
            background=found.background,
            settled=found.settled,
            findings=found.findings,
        )

    def starting(self, patterns: ResidentScan) -> StartingScan:
        return StartingScan(
            probe=self.probe,
            patterns=patterns.placed(self.starts, self.fractions_px).lit(self.relative_flux),
            background=self.background,
            settled=self.settled,
            findings=self.findings,
        )


def _with_others_moved(run: WholeScan, resident: ResidentScan, few: NDArray[np.int64]) -> ResidentScan:
    """Move the patterns that nobody looked at, such as those held out, as the stage moved the others."""
    known = torch.tensor(few)
    before, after = resident.positions_px(known), run.scan.positions_px(known)
    if torch.equal(before, after):
        return run.scan
    others = torch.tensor(np.setdiff1d(np.arange(len(resident.starts)), few))
    moves = moves_of_the_stage(before, after - before, resident.positions_px(others))
    return run.scan.moved(others, moves)


def _preparation_for(
    payload: TrainingPayload, start: StartingNetwork, work: ProbeWork, enough: Callable[[], bool], *, whole: bool
) -> Preparation:
    """What is found out before a training; a network with random weights knows nothing about probe and positions.

    Where time is so short that only some patterns are looked at, no position is moved.
    """
    settings = payload.pt_training_config
    able = start.pretrained and work.rounds > 0
    return Preparation(
        focus_patterns=work.focus_patterns,
        judged=start.pretrained,
        probe_rounds=work.rounds,
        background_counts=settings.background_counts,
        positions=settings.position_refinement if able and whole else "none",
        orientation=settings.orientation_search if able else "never",
        probe_search=settings.probe_search if able else "never",
        modes=settings.probe_modes,
        flux=settings.flux_search if able else "never",
        blur=settings.blur_search if able else "never",
        enough=enough,
    )


@attrs.frozen(kw_only=True, eq=False)
class ProbeTime:
    """The time for one scan's probe.

    Attributes:
        limit: of the run.
        until: share of the limit by whose end the probe has to be ready.
    """

    limit: TimeLimit
    until: float = 1.0

    def suited(
        self,
        wanted: ProbeWork,
        run_pass: Callable[[NDArray[np.int64]], object],
        resident: ResidentScan,
        patterns: NDArray[np.int64],
    ) -> tuple[ProbeWork, float]:
        """Cut the work down to the time, by the pace of a pass over a few patterns.

        Args:
            wanted: the work.
            run_pass: runs the network over some scan indices.
            resident: the patterns.
            patterns: scan indices that may be looked at.

        Returns:
            The work that fits, and the seconds that one of its rounds is expected to take.
        """
        if self.limit.seconds is None:
            return wanted, 0.0
        few = _around_the_middle(resident, patterns, _PACE_PATTERNS)
        with torch.no_grad():
            run_pass(few[:1])  # what the libraries do once is not the pace
            clock = Clock(self.limit.now)
            run_pass(few)
        pass_s = clock.elapsed_s / len(few)
        work = work_within(wanted, self.limit.left_until_s(self.until), pass_s)
        return work, ROUND_PASSES * pass_s * work.round_patterns


def _wanted_work(payload: TrainingPayload, start: StartingNetwork, n_patterns: int) -> ProbeWork:
    settings = payload.pt_training_config
    rounds = settings.probe_rounds
    if rounds is None:
        rounds = ROUNDS_BEFORE_A_TRAINING if start.pretrained else 0
    if not settings.probe_trainable:
        return ProbeWork(focus_patterns=0, rounds=0, round_patterns=n_patterns)
    return ProbeWork(
        focus_patterns=n_patterns if settings.probe_autofocus else 0, rounds=rounds, round_patterns=n_patterns
    )


def _around_the_middle(resident: ResidentScan, patterns: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """Return so many scan indices around the mean position, in their order."""
    if number >= len(patterns):
        return patterns
    starts = resident.starts_on_host()[patterns]
    distance = np.square(starts - starts.mean(axis=0)).sum(axis=1)
    nearest: NDArray[np.int64] = np.sort(patterns[np.argsort(distance, kind="stable")[:number]])
    return nearest


def probe_mask(payload: TrainingPayload) -> Tensor | None:
    """Mask that the configuration multiplies to the probe."""
    model = payload.pt_model_config
    if not model.probe_mask:
        return None
    if model.probe_mask_tensor is not None:
        mask = torch.tensor(model.probe_mask_tensor)
        peak = mask.abs().max()
        # The probe's energy is fixed, so a mask has no unit; one that is far from 1 would overflow.
        return mask / peak if peak > 0 else mask
    size = payload.pt_data_config.N
    return soft_disc(size, model.probe_mask_diameter or size / 2, model.probe_mask_sigma)
