"""Trainings on TensorFlow that end in the middle: the next run goes on as if nothing had happened."""

from __future__ import annotations

import shutil
import signal
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from ptycho_adapters.common.checkpoint_files import DamagedCheckpointError
from ptycho_adapters.tensorflow_backend.training.checkpoints import read_checkpoint
from ptycho_core.errors import ConfigError
from tensorflow_training import falling, minute_payload, observed

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

    from tensorflow_training import Observed

# 9 steps, 3 in an epoch, and a look at what is held out after each epoch.
SETTINGS: dict[str, object] = {"epochs": 3, "scheduler": "CosineAnnealing"}
OFTEN: dict[str, object] = {"enable_checkpointing": True, "checkpoint_every_s": 0.0}


def resumed(folder: Path, **execution: object) -> Observed:
    return observed(minute_payload(folder, SETTINGS, 16, **{**OFTEN, "resume": "auto", **execution}))


def equal(one: Observed, other: Observed) -> bool:
    """Whether weights, losses of epochs and steps and the choice of what is kept are the same, bit for bit."""
    first, second = one.model, other.model
    return all(
        np.array_equal(value, second.generator.weights[name]) for name, value in first.generator.weights.items()
    ) and (first.history, first.step_losses, first.selection) == (second.history, second.step_losses, second.selection)


def copied(folder: Path, copies: Path, **execution: object) -> Observed:
    """A whole training, and a copy of its folder before every step that is not the first: what a kill then leaves."""

    def copy(steps: int) -> float:
        if folder.exists() and not (copies / str(steps)).exists():
            shutil.copytree(folder, copies / str(steps))
        return falling(steps)

    return observed(minute_payload(folder, SETTINGS, 16, **{**OFTEN, **execution}), loss=copy)


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """Wherever in an epoch it was killed, and at its end before anything was looked at; no step is lost."""
    whole = copied(tmp_path / "whole", tmp_path / "copies")

    for number, left in {1: 8, 2: 7, 3: 7, 4: 5, 8: 1, 9: 1}.items():
        rest = resumed(tmp_path / "copies" / str(number))

        assert equal(rest, whole)
        assert len(rest.learner.batches) == left


def test_checkpoints_within_an_epoch_can_be_left_out(tmp_path: Path) -> None:
    """The ends of epochs have theirs."""
    copied(tmp_path / "whole", tmp_path / "copies", checkpoint_every_s=None)

    assert len(resumed(tmp_path / "copies" / "5").learner.batches) == 6


def stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


@pytest.mark.parametrize(("steps", "left"), [(4, 4), (5, 3)], ids=["within", "last of an epoch"])
def test_a_run_that_is_told_to_stop_finishes_its_step(tmp_path: Path, steps: int, left: int) -> None:
    """It writes a checkpoint, and the signal then does what it does without a training."""

    def told(done: int) -> float:
        if done == steps:
            signal.raise_signal(signal.SIGTERM)
        return falling(done)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        payload = minute_payload(tmp_path, SETTINGS, enable_checkpointing=True, checkpoint_every_s=None)
        with pytest.raises(SystemExit) as stopped:
            observed(payload, loss=told)
        assert signal.getsignal(signal.SIGTERM) is stop
    finally:
        signal.signal(signal.SIGTERM, before)

    assert stopped.value.code == 143
    assert len(resumed(tmp_path).learner.batches) == left


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path) -> None:
    """A single bit is enough; nothing that is whole but another training's, or another backend's, is taken."""
    whole = observed(minute_payload(tmp_path, SETTINGS, 16, **OFTEN))
    last = tmp_path / "checkpoints" / "last.ckpt"
    content = bytearray(last.read_bytes())
    content[-5] ^= 1
    last.write_bytes(content)
    with pytest.raises(DamagedCheckpointError, match=r"last\.ckpt: damaged: it does not match its checksum; --resume"):
        read_checkpoint(last)

    with pytest.warns(UserWarning, match="does not match its checksum: it is now .*; going on from .*ckpt"):
        rest = resumed(tmp_path)

    assert equal(rest, whole)
    other = minute_payload(tmp_path, SETTINGS | {"learning_rate": 1.0}, resume="auto")
    with pytest.raises(ConfigError, match=r"learning_rate: expected 0\.002, as in \S+\.ckpt, found 1\.0"):
        observed(other)
    torch.save({"state_dict": {}}, last)
    with pytest.raises(ConfigError, match=r"last\.ckpt: one of backend pytorch"):
        resumed(tmp_path)
    assert last.exists()
