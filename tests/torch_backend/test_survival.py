"""Trainings that end in the middle: the next run goes on as if nothing had happened."""

from __future__ import annotations

import os
import re
import shutil
import signal
import warnings
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
import torch
from lightning import Callback

from ptycho_adapters.common.checkpoint_files import DamagedCheckpointError
from ptycho_adapters.torch_backend import train
from ptycho_adapters.torch_backend.training.checkpoint_io import read_checkpoint
from ptycho_core.errors import ConfigError
from torch_sample import payload_for, quick_training, same, tiny_scan

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

    from lightning import LightningModule, Trainer

    from ptycho_adapters.torch_backend.data.groups import GroupBatch
    from ptycho_adapters.torch_backend.trained_model import TrainedModel

# 9 steps, 3 in an epoch; the learning rate depends on the step, the loss of an epoch on all its batches.
SETTINGS: dict[str, object] = {"epochs": 3, "scheduler": "CosineAnnealing"}
OFTEN: dict[str, object] = {"enable_checkpointing": True, "checkpoint_every_s": 0.0}


class _Watch(Callback):
    """Does something before the batch of a number, counted from 0 over all epochs."""

    def __init__(self) -> None:
        self.batches = 0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: GroupBatch, batch_idx: int
    ) -> None:
        """Count."""
        self.before(self.batches)
        self.batches += 1

    def before(self, number: int) -> None:
        """Do it."""


class _Copies(_Watch):
    """Copies the folder before every batch: what a run that is killed then leaves."""

    def __init__(self, folder: Path, copies: Path) -> None:
        super().__init__()
        self.folder, self.copies = folder, copies

    def before(self, number: int) -> None:
        if self.folder.exists():
            shutil.copytree(self.folder, self.copies / str(number))


class _Terminates(_Watch):
    """Sends the process a signal before a batch, as a scheduler does when time is up."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def before(self, number: int) -> None:
        if number == self.number:
            signal.raise_signal(signal.SIGTERM)


def _resumed(folder: Path, settings: dict[str, object] = SETTINGS, **execution: object) -> tuple[TrainedModel, int]:
    """Go on in a folder; gives the model and the number of batches that were trained on."""
    watch = _Watch()
    payload = payload_for(folder, settings, **{**OFTEN, "resume": "auto", **execution})
    return train(payload, tiny_scan(), callbacks=[watch]), watch.batches


def _equal(one: TrainedModel, other: TrainedModel) -> bool:
    """Whether weights, probes, losses of epochs and steps and the choice of what is kept are the same, bit for bit."""
    return same(one, other) and one.step_losses == other.step_losses and one.selection == other.selection


@pytest.mark.parametrize(
    ("changed", "left"),
    [({}, {2: 7, 5: 4}), ({"accum_steps": 2, "epochs": 2}, {2: 4, 5: 1})],
    ids=["", "accumulated"],
)
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, changed: dict[str, object], left: dict[int, int]
) -> None:
    """Wherever in an epoch it was killed, it ends with what an uninterrupted run ends with, and repeats no step."""
    settings = SETTINGS | changed
    copies = _Copies(tmp_path / "whole", tmp_path / "copies")
    whole = train(payload_for(tmp_path / "whole", settings, **OFTEN), tiny_scan(), callbacks=[copies])
    plain = quick_training(tmp_path / "plain", settings)
    assert _equal(attrs.evolve(whole, payload=plain.payload), plain)  # checkpoints change nothing

    for number, batches in left.items():
        model, trained = _resumed(tmp_path / "copies" / str(number), settings)

        assert _equal(model, whole), number
        assert trained == batches


def test_loader_processes_find_their_place(tmp_path: Path) -> None:
    """They ask for batches ahead; those of the epoch that goes on, and from the one that it had come to."""
    copies = _Copies(tmp_path / "whole", tmp_path / "copies")
    whole = train(payload_for(tmp_path / "whole", SETTINGS, **OFTEN), tiny_scan(), callbacks=[copies])

    model, _ = _resumed(tmp_path / "copies" / "5", num_workers=1)

    assert _equal(model, whole)


def test_checkpoints_within_an_epoch_are_as_often_as_asked_for(tmp_path: Path) -> None:
    """Every so many seconds, or at the ends of epochs alone; an epoch that is over always has one."""
    copies = _Copies(tmp_path / "none", tmp_path / "copies")
    payload = payload_for(tmp_path / "none", SETTINGS, enable_checkpointing=True, checkpoint_every_s=None)
    train(payload, tiny_scan(), callbacks=[copies])

    _, from_the_middle = _resumed(tmp_path / "copies" / "5")
    _, from_the_end = _resumed(tmp_path / "none")

    assert not (tmp_path / "copies" / "2").exists()
    assert (from_the_middle, from_the_end) == (6, 0)


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


@pytest.mark.parametrize(("number", "left"), [(4, 4), (5, 3)], ids=["within", "last of an epoch"])
def test_a_run_that_is_told_to_stop_finishes_its_step(tmp_path: Path, number: int, left: int) -> None:
    """It writes a checkpoint, whenever the last one was, and the signal then does what it does without a training."""
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        payload = payload_for(tmp_path, SETTINGS, enable_checkpointing=True, checkpoint_every_s=None)
        with pytest.raises(SystemExit) as stopped:
            train(payload, tiny_scan(), callbacks=[_Terminates(number)])
        assert signal.getsignal(signal.SIGTERM) is _stop
    finally:
        signal.signal(signal.SIGTERM, before)

    model, trained = _resumed(tmp_path)

    assert stopped.value.code == 143
    assert trained == left
    assert _equal(model, quick_training(tmp_path / "whole", SETTINGS))


def _damaged(path: Path, content: bytes) -> None:
    """Give a file another content, at no time of its own: a disk leaves no note of what it loses."""
    times = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _torn(path: Path) -> None:
    content = path.read_bytes()
    _damaged(path, content[: len(content) // 2])


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    _damaged(path, bytes(content))


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path) -> None:
    """What is damaged is named and kept aside; without any that is whole the training starts from the beginning."""
    whole = quick_training(tmp_path / "whole", SETTINGS, **OFTEN)
    folder = tmp_path / "whole" / "checkpoints"
    _flipped(folder / "last.ckpt")
    (best,) = folder.glob("epoch=*")
    _torn(best)

    with pytest.warns(UserWarning, match="it is now") as told:
        model, trained = _resumed(tmp_path / "whole")

    assert re.search(
        r"last\.ckpt: damaged: \S+ does not match its checksum: it is .*on from .*epoch=", str(told[0].message)
    )
    assert str(told[1].message).endswith(f"{best.name}.damaged; going on from {folder / 'before-last.ckpt'}")
    assert _equal(model, whole)
    assert trained == 1
    read_checkpoint(folder / "last.ckpt")
    for path in folder.glob("*.ckpt"):
        _torn(path)
    with pytest.warns(UserWarning, match="it is now") as told:
        assert _resumed(tmp_path / "whole")[1] == 9
    assert str(told[-1].message).endswith("the training starts from the beginning")


def test_any_damage_is_found(tmp_path: Path) -> None:
    """A file with one bit turned is refused by name, or holds what it held: some between the members mean nothing."""
    quick_training(tmp_path, {"epochs": 1}, **OFTEN)
    path = tmp_path / "checkpoints" / "last.ckpt"
    whole, content = read_checkpoint(path), path.read_bytes()
    draw = np.random.default_rng(0)
    refused = 0

    for place in draw.integers(len(content), size=60):
        changed = bytearray(content)
        changed[place] ^= 1 << int(draw.integers(8))
        path.write_bytes(changed)
        try:
            found = read_checkpoint(path)
        except DamagedCheckpointError as error:
            refused += f"{path}: " in str(error) and "--resume auto" in str(error)
            continue
        for name, value in whole["state_dict"].items():
            assert torch.equal(value, found["state_dict"][name])
    assert refused > 50


def test_it_does_not_go_on_with_another_training_by_itself(tmp_path: Path) -> None:
    """The message says what differs, and how it was; who names the checkpoint may go on all the same."""
    quick_training(tmp_path, SETTINGS, **OFTEN)
    other = SETTINGS | {"learning_rate": 3e-3, "epochs": 4}
    last = tmp_path / "checkpoints" / "last.ckpt"

    with pytest.raises(
        ConfigError, match=r"learning_rate: expected 0\.002, as in \S+last\.ckpt, found 0\.003; .*--resume FILE"
    ):
        _resumed(tmp_path, other)
    moved = attrs.evolve(tiny_scan(), positions_px=tiny_scan().positions_px + 1)
    payload = payload_for(tmp_path, SETTINGS, resume="auto")
    with pytest.raises(ConfigError, match=r"the scans: expected \w{8}, as in \S+, found \w{8}"):
        train(payload, moved)

    assert _resumed(tmp_path, other, resume=last)[1] == 3


def test_an_empty_folder_is_a_beginning(tmp_path: Path) -> None:
    """Without a warning: nothing is wrong."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert _resumed(tmp_path)[1] == 9
