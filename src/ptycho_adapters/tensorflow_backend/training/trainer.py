"""From a payload and a scan to a trained model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ptycho_adapters.common.bars import Bar, bars_drawn
from ptycho_adapters.common.checkpoint_files import forget_last
from ptycho_adapters.common.course import Course
from ptycho_adapters.common.findings import beam_moved
from ptycho_adapters.common.groups import batches_of_epoch, random_of_epoch, training_set_for
from ptycho_adapters.common.identity import identity_of
from ptycho_adapters.common.model import EpochLosses, ScanProbe, Selection
from ptycho_adapters.common.monitoring import check_kept, start_is_kept, watched_loss
from ptycho_adapters.common.pace import Pace
from ptycho_adapters.common.schedule import Clock, TimeLimit
from ptycho_adapters.common.shipped import prior_law_of_start
from ptycho_adapters.common.stopping import StopRequest
from ptycho_adapters.stages import stage
from ptycho_adapters.tensorflow_backend.execution import device_of, prepare_process
from ptycho_adapters.tensorflow_backend.generators.build import build_generator
from ptycho_adapters.tensorflow_backend.trained_model import TrainedModel
from ptycho_adapters.tensorflow_backend.training.checkpoints import Checkpoints, resumable
from ptycho_adapters.tensorflow_backend.training.memory import check_patterns, check_training
from ptycho_adapters.tensorflow_backend.training.start import arms_of, starting_generator
from ptycho_adapters.tensorflow_backend.training.step import Learner
from ptycho_core.config.backend_limits import beyond_records
from ptycho_core.config.main_term import main_term_name
from ptycho_core.config.table import TRAINING
from ptycho_core.errors import ConfigError, Problem, ScanError, raise_if_any
from ptycho_core.version import VERSION

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptycho_adapters.common.groups import TrainingSet
    from ptycho_adapters.tensorflow_backend.training.start import Arms
    from ptycho_core.config.payload import TrainingPayload
    from ptycho_core.measurement.scan import Scan


def train(payload: TrainingPayload, scan: Scan, *, validation: Scan | None = None) -> TrainedModel:
    """Train a generator on a scan, under the scan's probe.

    Progress goes to standard error, checkpoints into the payload's output folder.

    Args:
        payload: resolved settings. The files that it names are for the caller to read.
        scan: patterns to learn from.
        validation: another scan of the same instrument to validate on, under the same probe; by default a region of
            the scan is held out.

    Returns:
        The trained model.

    Raises:
        ScanError: a scan does not fit the payload; every misfit is listed.
        ConfigError: the payload asks for what cannot be done.
        DependencyError: the accelerator is not there.
        MemoryShortageError: the patterns or a batch do not fit into the memory that is free.
        NotFiniteError: neither the start nor any epoch that can be kept has a finite held-out loss.
        OSError: from the file system, where checkpoints are written.
    """
    return train_on(payload, training_set_for(payload, scan, validation=validation))


def train_on(payload: TrainingPayload, data: TrainingSet) -> TrainedModel:
    """Train as `train` does, on groups that have been drawn already.

    Args:
        payload: resolved settings, those that the groups were drawn with.
        data: one scan and its groups.

    Raises:
        ScanError: there are several scans.
        ConfigError: the payload asks for what cannot be done.
        DependencyError: the accelerator is not there.
        MemoryShortageError: the patterns or a batch do not fit into the memory that is free.
        NotFiniteError: neither the start nor any epoch that can be kept has a finite held-out loss.
    """
    beyond = beyond_records("tensorflow", payload.records, TRAINING, payload.provenance)
    raise_if_any(ConfigError, "training", beyond)
    if len(data.scans) != 1:
        expected, fix = "one, with backend tensorflow", "backend pytorch trains on several scans together"
        raise ScanError("training", [Problem(path="scans", expected=expected, found=str(len(data.scans)), fix=fix)])
    prepare_process(payload.execution_config)
    check_patterns(payload, data)
    with device_of(payload.execution_config):
        return _Run(payload, data).model()


class _Run:
    """A training on its way.

    Args:
        payload: resolved settings.
        data: the scan and its groups.
    """

    def __init__(self, payload: TrainingPayload, data: TrainingSet) -> None:
        execution, limit = payload.execution_config, TimeLimit(payload.execution_config.max_time)
        watched = watched_loss(execution, main_term_name(payload), validates=data.validates)
        self._payload, self._scan, self._groups = payload, data.scans[0], data.groups[0]
        self._config = payload.pt_training_config
        self._arms: Arms = arms_of(payload, data)
        start = starting_generator(payload)
        check_training(payload, start, data, self._arms)
        self._learner = Learner(start, self._config)
        self._start_weights = start.weights
        identity = identity_of(payload, data)
        self._before = resumable(payload, self._learner.state(), identity)
        self._held_out = data.validates
        self._start_loss = self._look() if data.validates else None
        steps = math.ceil(len(self._groups.train) / self._config.batch_size)
        pace = Pace(self._config, limit, steps_per_epoch=steps, tail_s=self._look_s(limit))
        self._course = Course(payload, pace, watched)
        self._checkpoints = Checkpoints(payload, self._course, identity)
        self._every_s, self._clock, self._stop = execution.checkpoint_every_s, Clock(limit.now), StopRequest()

    def model(self) -> TrainedModel:
        """Run the epochs, from the start or from a checkpoint, and give what they leave."""
        self._begin()
        if self._payload.execution_config.enable_checkpointing:
            self._stop.listen()
        with bars_drawn(wanted=self._payload.execution_config.enable_progress_bar):
            bar = Bar("training", done=self._course.pace.fraction)
        try:
            for epoch in self._course.epochs():
                with stage("epoch", number=epoch + 1) as said:
                    losses = self._epoch(epoch, bar)
                    said.count(steps=losses.steps, train_loss=losses.train)
                ends = self._course.end_epoch(losses)
                self._checkpoints.write(self._learner.state())
                self._end_if_asked()
                bar.say(**_told(losses))
                if ends:
                    break
        finally:
            bar.close()
            self._stop.pass_on()
        return self._trained()

    def _end_if_asked(self) -> None:
        self._clock.set(0.0)
        if self._stop.asked:
            self._stop.pass_on()

    def _write_if_due(self) -> None:
        """Write a checkpoint between two steps, if it is time or a stop is asked for."""
        due = self._every_s is not None and self._clock.elapsed_s >= self._every_s
        if due or self._stop.asked:
            self._checkpoints.write_within(self._learner.state())
            self._end_if_asked()

    def _begin(self) -> None:
        """Take up the run that is to be gone on with, if any."""
        if self._before is not None:
            self._learner.take_up(self._before.arrays)
            self._course.take_up(self._before.memory)
            self._checkpoints.take_up(self._before)
        else:
            forget_last(self._payload)
        self._clock.set(0.0)

    @property
    def _batch_size(self) -> int:
        return self._config.batch_size

    def _epoch(self, epoch: int, bar: Bar) -> EpochLosses:
        seed = None if self._config.sequential_sampling else self._config.seed
        pace, course = self._course.pace, self._course
        batches = list(batches_of_epoch([len(self._groups.train)], self._batch_size, random_of_epoch(seed, epoch)))
        for _, rows in batches[len(course.begun) :]:
            with pace.step() as factor:
                loss = self._learner.learn(self._arms.training, self._groups.train[rows], course.rate(factor))
            course.end_batch(loss, len(rows))
            if bar.wants_figures():
                bar.say(epoch=epoch + 1, steps=pace.steps, now=f"{float(loss):.4f}")
            bar.come_to(pace.fraction)
            if pace.out_of_time:
                break
            if len(course.begun) < len(batches):  # the end of the epoch has its own
                self._write_if_due()
        held_out = self._look() if self._held_out else None
        return EpochLosses(epoch=epoch, train=course.mean_loss, validation=held_out, steps=pace.steps)

    def _look(self) -> float:
        """Mean main term of the groups that are held out."""
        groups = self._groups.validation
        parts = [groups[first : first + self._batch_size] for first in range(0, len(groups), self._batch_size)]
        losses = [self._learner.judge(self._arms.validation, part) for part in parts]
        return float(np.average(losses, weights=[len(part) for part in parts]))

    def _look_s(self, limit: TimeLimit) -> float:
        """Seconds that a look at what is held out takes, where time is limited; the first one traced a graph."""
        if limit.seconds is None or not self._held_out:
            return 0.0
        clock = Clock(limit.now)
        self._look()
        return clock.elapsed_s

    def _trained(self) -> TrainedModel:
        payload = self._payload
        weights, selection = self._kept()
        probe = self._arms.training.probe
        energy = float(np.square(np.abs(probe)).sum(dtype=np.float64))
        return TrainedModel(
            payload=payload,
            generator=build_generator(payload.pt_model_config, payload.pt_data_config, weights),
            probes=(
                ScanProbe(
                    name=self._scan.metadata.name,
                    probe=probe,
                    start_probe=probe,
                    flux=energy,
                    findings=tuple(beam_moved(self._arms.training.patterns.beam_px)),
                ),
            ),
            history=tuple(self._course.history),
            step_losses=self._course.steps.means(),
            selection=selection,
            code_version=VERSION,
            prior_law=prior_law_of_start(payload),
        )

    def _kept(self) -> tuple[dict[str, NDArray[Any]], Selection | None]:
        """Give the weights to keep: of the start or the end, whichever explains better what is held out.

        Of two equals it is the start. The end is the best checkpoint, if there are checkpoints and it is better than
        the last epoch.
        """
        history = self._course.history
        if self._start_loss is None or not history:
            return self._learner.weights(), None
        better = self._checkpoints.better_than_last()
        weights, epoch = better or (self._learner.weights(), history[-1].epoch)
        end_loss = history[epoch].validation
        if end_loss is None:  # of an epoch before the run was taken up, of which nothing was held out
            return weights, None
        check_kept(self._start_loss, end_loss)
        kept = start_is_kept(self._start_loss, end_loss)
        selection = Selection(start_loss=self._start_loss, end_loss=end_loss, epoch=None if kept else epoch)
        return self._start_weights if kept else weights, selection


def _told(losses: EpochLosses) -> dict[str, object]:
    """Give what the bar says of an epoch."""
    held_out = {} if losses.validation is None else {"val": f"{losses.validation:.4f}"}
    return {"epoch": losses.epoch + 1, "steps": losses.steps, "train": f"{losses.train:.4f}", **held_out}
