"""From a payload and a scan to a trained model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ptycho_adapters.common.bars import fraction_bar
from ptycho_adapters.common.groups import batches_of_epoch, random_of_epoch, training_set_for
from ptycho_adapters.common.model import EpochLosses, ScanProbe, Selection
from ptycho_adapters.common.monitoring import Patience, Plateau, start_is_kept, watched_loss
from ptycho_adapters.common.pace import Pace
from ptycho_adapters.common.schedule import Clock, TimeLimit
from ptycho_adapters.common.step_means import StepMeans
from ptycho_adapters.tensorflow_backend.execution import device_of, prepare_process
from ptycho_adapters.tensorflow_backend.generators.build import build_generator
from ptycho_adapters.tensorflow_backend.trained_model import TrainedModel
from ptycho_adapters.tensorflow_backend.training.start import arms_of, starting_generator
from ptycho_adapters.tensorflow_backend.training.step import Learner
from ptycho_core.config.main_term import main_term_name
from ptycho_core.errors import Problem, ScanError
from ptycho_core.version import VERSION

if TYPE_CHECKING:
    from tqdm import tqdm

    from ptycho_adapters.common.groups import TrainingSet
    from ptycho_adapters.tensorflow_backend.training.start import Arms
    from ptycho_core.config.payload import TrainingPayload
    from ptycho_core.measurement.scan import Scan


def train(payload: TrainingPayload, scan: Scan, *, validation: Scan | None = None) -> TrainedModel:
    """Train a generator on a scan, under the scan's probe. Progress goes to standard error.

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
    """
    if len(data.scans) != 1:
        expected, fix = "one, with backend tensorflow", "backend pytorch trains on several scans together"
        raise ScanError("training", [Problem(path="scans", expected=expected, found=str(len(data.scans)), fix=fix)])
    prepare_process(payload.execution_config)
    with device_of(payload.execution_config):
        return _Run(payload, data).model()


class _Run:
    """A training on its way.

    Args:
        payload: resolved settings.
        data: the scan and its groups.
    """

    def __init__(self, payload: TrainingPayload, data: TrainingSet) -> None:
        limit = TimeLimit(payload.execution_config.max_time)
        self._payload, self._scan, self._groups = payload, data.scans[0], data.groups[0]
        self._config = payload.pt_training_config
        self._arms: Arms = arms_of(payload, data)
        start = starting_generator(payload)
        self._learner = Learner(start, self._config)
        self._start_weights = start.weights
        self._held_out = data.validates
        self._metric = watched_loss(payload.execution_config, main_term_name(payload), validates=data.validates)
        self._plateau, self._steps = Plateau(self._config), StepMeans()
        self._history: list[EpochLosses] = []
        self._start_loss = self._look() if data.validates else None
        steps = math.ceil(len(self._groups.train) / self._config.batch_size)
        self._pace = Pace(self._config, limit, steps_per_epoch=steps, tail_s=self._look_s(limit))

    def model(self) -> TrainedModel:
        """Run the epochs and give what they leave."""
        patience = Patience(self._payload.execution_config)
        bar = fraction_bar("training", 0.0) if self._payload.execution_config.enable_progress_bar else None
        try:
            for epoch in range(self._config.epochs):
                losses = self._epoch(epoch, bar)
                self._history.append(losses)
                self._plateau.watch(train=losses.train, held_out=losses.validation)
                watched = losses.train if self._metric == "train" else losses.validation
                if bar is not None:
                    shown = {"epoch": epoch + 1, "steps": losses.steps, "train": f"{losses.train:.4f}"}
                    held_out = {} if losses.validation is None else {"val": f"{losses.validation:.4f}"}
                    bar.set_postfix(shown | held_out, refresh=False)
                if self._pace.out_of_time or (watched is not None and patience.ends(watched)):
                    break
        finally:
            if bar is not None:
                bar.close()
        return self._trained()

    @property
    def _batch_size(self) -> int:
        return self._config.batch_size

    def _epoch(self, epoch: int, bar: tqdm[Any] | None) -> EpochLosses:
        seed = None if self._config.sequential_sampling else self._config.seed
        losses: list[float] = []
        sizes: list[int] = []
        for _, rows in batches_of_epoch([len(self._groups.train)], self._batch_size, random_of_epoch(seed, epoch)):
            with self._pace.step() as rate:
                factor = self._plateau.state.factor
                floored = self._plateau.floored(self._config.learning_rate, rate * factor)
                losses.append(self._learner.learn(self._arms.training, self._groups.train[rows], floored))
            sizes.append(len(rows))
            self._steps.append((self._pace.steps, losses[-1], 1))
            if bar is not None:
                bar.update(self._pace.fraction - bar.n)
            if self._pace.out_of_time:
                break
        held_out = self._look() if self._held_out else None
        train = float(np.average(losses, weights=sizes))
        return EpochLosses(epoch=epoch, train=train, validation=held_out, steps=self._pace.steps)

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
        payload, selection = self._payload, self._selection()
        weights = self._start_weights if selection is not None and selection.epoch is None else self._learner.weights()
        probe = self._arms.training.probe
        energy = float(np.square(np.abs(probe)).sum(dtype=np.float64))
        return TrainedModel(
            payload=payload,
            generator=build_generator(payload.pt_model_config, payload.pt_data_config, weights),
            probes=(ScanProbe(name=self._scan.metadata.name, probe=probe, start_probe=probe, flux=energy),),
            history=tuple(self._history),
            step_losses=self._steps.means(),
            selection=selection,
            code_version=VERSION,
        )

    def _selection(self) -> Selection | None:
        """Keep the start or the end, whichever explains better what is held out; of two equals the start."""
        last = self._history[-1] if self._history else None
        if self._start_loss is None or last is None or last.validation is None:
            return None
        kept = start_is_kept(self._start_loss, last.validation)
        return Selection(start_loss=self._start_loss, end_loss=last.validation, epoch=None if kept else last.epoch)
