"""Settings of the execution record: each one changes the Trainer, what is written, or when it ends."""

from __future__ import annotations

import importlib.util
import math
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from ptycho_adapters.torch_backend import reconstruct, train
from ptycho_adapters.torch_backend.execution import accelerator_name, pick_device
from ptycho_adapters.torch_backend.training.callbacks import LossHistory
from ptycho_adapters.torch_backend.training.schedule import TimeLimit
from ptycho_adapters.torch_backend.training.trainer import build_trainer
from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig
from ptycho_core.errors import ConfigError, DependencyError
from torch_sample import (
    FakeClock,
    metrics_rows,
    observed_training,
    payload_for,
    quick_training,
    same,
    tiny_scan,
    weights,
)

if TYPE_CHECKING:
    from pathlib import Path

    from lightning import Trainer


def _trainer(folder: Path, **execution: object) -> Trainer:
    return build_trainer(payload_for(folder, {}, **execution), LossHistory(), TimeLimit(), validates=True)


def _checkpoints(folder: Path) -> list[str]:
    return sorted(file.name for file in (folder / "checkpoints").iterdir())


def test_the_accelerator_is_the_one_asked_for(tmp_path: Path) -> None:
    """The CPU is used when told so, and `auto` takes what is there when the run starts."""
    assert _trainer(tmp_path, accelerator="cpu").strategy.root_device.type == "cpu"
    assert _trainer(tmp_path, accelerator="auto").strategy.root_device.type == pick_device("auto").type


@pytest.mark.parametrize("accelerator", ["gpu", "cuda", "mps"])
def test_a_missing_accelerator_is_refused(tmp_path: Path, accelerator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the device is not there, training says so before it starts."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    with pytest.raises(DependencyError, match=f"accelerator='{accelerator}': no such device"):
        train(payload_for(tmp_path, accelerator=accelerator), tiny_scan())


def test_a_tpu_needs_its_package(tmp_path: Path) -> None:
    """The message holds the install command."""
    with pytest.raises(DependencyError, match="accelerator='tpu' needs the package torch_xla: pip install torch_xla"):
        train(payload_for(tmp_path, accelerator="tpu"), tiny_scan())


def test_cuda_is_lightning_s_gpu() -> None:
    """Both words mean the same device."""
    assert [accelerator_name(name) for name in ("cuda", "gpu", "cpu", "auto")] == ["gpu", "gpu", "cpu", "auto"]


def test_devices_are_counted(tmp_path: Path) -> None:
    """Two processes are two processes."""
    assert [_trainer(tmp_path, devices=n).num_devices for n in (1, 2)] == [1, 2]


def test_the_strategy_is_the_one_asked_for(tmp_path: Path) -> None:
    """`auto` is a single device here; `ddp` is what it says."""
    assert isinstance(_trainer(tmp_path).strategy, SingleDeviceStrategy)
    assert isinstance(_trainer(tmp_path, strategy="ddp").strategy, DDPStrategy)


def test_an_unknown_strategy_is_refused(tmp_path: Path) -> None:
    """The message quotes what was asked for."""
    with pytest.raises(ConfigError, match="strategy='magic'"):
        _trainer(tmp_path, strategy="magic")


def test_precision_changes_the_arithmetic(tmp_path: Path) -> None:
    """bfloat16 in the network gives other weights, close to those of float32."""
    full, mixed = (quick_training(tmp_path, precision=name) for name in ("32-true", "bf16-mixed"))

    assert not same(full, mixed)
    assert mixed.history[-1].train == pytest.approx(full.history[-1].train, rel=0.05)


def test_the_optics_stay_in_float32(tmp_path: Path) -> None:
    """Before the first step, when patches are all one, reduced precision sees the same loss to six digits."""
    settings = {"n_groups": 2, "validation_fraction": 0.0}
    full, mixed = (quick_training(tmp_path, settings, precision=name) for name in ("32-true", "bf16-mixed"))

    assert mixed.history[0].train == pytest.approx(full.history[0].train, rel=1e-6)


def test_half_precision_on_a_cpu_is_refused(tmp_path: Path) -> None:
    """Lightning would silently take another format."""
    with pytest.raises(ConfigError, match="precision: expected '32-true' or 'bf16-mixed' on a CPU, found '16-mixed'"):
        train(payload_for(tmp_path, precision="16-mixed"), tiny_scan())


@pytest.mark.parametrize(
    ("asked", "switches"), [(True, (True, False)), ("warn", (True, True)), (False, (False, False))]
)
def test_determinism_is_switched_for_the_run(tmp_path: Path, asked: object, switches: tuple[bool, bool]) -> None:
    """While it trains, torch's switch stands as asked for."""
    run = observed_training(payload_for(tmp_path, deterministic=asked))

    assert set(run.observer.deterministic) == {switches}


def test_threads_are_lent_to_the_run(tmp_path: Path) -> None:
    """While it trains or reconstructs, torch has as many as asked for, and afterwards its own again."""
    before = torch.get_num_threads()

    run = observed_training(payload_for(tmp_path, num_threads=before + 1))
    used: list[int] = []
    run.model.generator.register_forward_pre_hook(lambda *_: used.append(torch.get_num_threads()))
    reconstruct(run.model, tiny_scan(), execution_config=PyTorchExecutionConfig(num_threads=before + 2))

    assert set(run.observer.threads) == {before + 1}
    assert set(used) == {before + 2}
    assert torch.get_num_threads() == before


def test_the_bar_is_shown_on_standard_error_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """With the bar, standard error says what is done; without, it is silent; standard output always is."""
    quick_training(tmp_path, enable_progress_bar=True)
    loud = capfd.readouterr()
    quick_training(tmp_path, enable_progress_bar=False)
    silent = capfd.readouterr()

    assert re.search(r"training.*100 ?%", loud.err)
    assert (loud.out, silent.out, silent.err) == ("", "", "")


@pytest.mark.parametrize("shown", [True, False])
def test_rounds_of_the_probe_have_a_bar(tmp_path: Path, capfd: pytest.CaptureFixture[str], shown: bool) -> None:
    """Before a training and before a reconstruction, on standard error, where a bar is wanted."""
    model = quick_training(tmp_path, {"probe_rounds": 1}, enable_progress_bar=shown)
    training = capfd.readouterr()
    reconstruct(
        model,
        tiny_scan(),
        execution_config=PyTorchExecutionConfig(enable_progress_bar=shown),
        inference_config=TorchInferenceConfig(probe_rounds=1),
    )
    reconstruction = capfd.readouterr()

    assert ["probe" in each.err for each in (training, reconstruction)] == [shown, shown]
    assert training.out == reconstruction.out == ""


def test_checkpoints_are_written_when_asked_for(tmp_path: Path) -> None:
    """The best one, named by epoch and metric, and the last one; or nothing at all."""
    quick_training(tmp_path / "on", enable_checkpointing=True)
    quick_training(tmp_path / "off", enable_checkpointing=False)

    best, last = _checkpoints(tmp_path / "on")
    assert best.startswith("epoch=0-poisson_val_loss=")
    assert last == "last.ckpt"
    assert not (tmp_path / "off" / "checkpoints").exists()


@pytest.mark.parametrize(("top", "kept"), [(0, 0), (1, 1), (2, 2), (-1, 3)])
def test_the_best_checkpoints_are_kept(tmp_path: Path, top: int, kept: int) -> None:
    """As many as asked for, -1 for all, beside the last one."""
    quick_training(tmp_path, {"epochs": 3}, enable_checkpointing=True, checkpoint_save_top_k=top)

    names = _checkpoints(tmp_path)
    assert len([name for name in names if name.startswith("epoch=")]) == kept
    assert "last.ckpt" in names


@pytest.mark.parametrize(
    ("asked", "metric"),
    [
        ("val_loss", "poisson_val_loss"),
        ("train_loss", "poisson_train_loss"),
        ("poisson_train_loss", "poisson_train_loss"),
    ],
)
def test_checkpoints_are_ranked_by_the_metric_asked_for(tmp_path: Path, asked: str, metric: str) -> None:
    """Its name is in the file name."""
    quick_training(tmp_path, enable_checkpointing=True, checkpoint_monitor_metric=asked)

    assert f"-{metric}=" in _checkpoints(tmp_path)[0]


def test_without_held_out_patterns_the_training_loss_ranks(tmp_path: Path) -> None:
    """There is no other."""
    quick_training(tmp_path, {"validation_fraction": 0.0}, enable_checkpointing=True)

    assert "-poisson_train_loss=" in _checkpoints(tmp_path)[0]


def test_an_unknown_metric_is_refused(tmp_path: Path) -> None:
    """The message lists those there are."""
    with pytest.raises(ConfigError, match=r"checkpoint_monitor_metric: expected one of .*val_loss, found 'accuracy'"):
        quick_training(tmp_path, checkpoint_monitor_metric="accuracy")


@pytest.mark.parametrize(("mode", "pick"), [("min", min), ("max", max)])
def test_the_mode_says_which_end_is_good(tmp_path: Path, mode: str, pick: object) -> None:
    """The checkpoint that is kept is that of the lowest or of the highest loss."""
    assert callable(pick)
    model = quick_training(
        tmp_path, {"epochs": 3}, enable_checkpointing=True, checkpoint_mode=mode, checkpoint_monitor_metric="train_loss"
    )

    chosen = pick(model.history, key=lambda row: row.train)
    assert _checkpoints(tmp_path)[0].startswith(f"epoch={chosen.epoch}-")


def test_a_training_ends_early_without_progress(tmp_path: Path) -> None:
    """Where falling counts as failing, patience runs out after as many epochs."""
    settings = {"epochs": 8, "n_groups": 2, "learning_rate": 1e-4, "probe_trainable": False, "validation_fraction": 0.0}
    runs = [
        quick_training(tmp_path, settings, checkpoint_mode="max", early_stop_patience=patience) for patience in (2, 4)
    ]

    assert [len(model.history) for model in runs] == [3, 5]
    assert len(quick_training(tmp_path, settings, early_stop_patience=2).history) == 8


def test_the_csv_log_has_the_losses(tmp_path: Path) -> None:
    """One row per epoch with the losses of the history."""
    model = quick_training(tmp_path, {"epochs": 2}, logger_backend="csv")

    rows = [row for row in metrics_rows(tmp_path) if row["poisson_train_loss"]]
    assert [float(row["poisson_train_loss"]) for row in rows] == pytest.approx([row.train for row in model.history])
    assert isinstance(_trainer(tmp_path, logger_backend="csv").logger, CSVLogger)


def test_no_log_means_no_file(tmp_path: Path) -> None:
    """Without logger and checkpoints, nothing is written."""
    quick_training(tmp_path / "out", logger_backend=None)

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("logger", ["tensorboard", "mlflow"])
def test_a_logger_without_its_package_is_refused(tmp_path: Path, logger: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message holds the install command."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)

    with pytest.raises(DependencyError, match=rf"needs the package {logger}: pip install '{logger}>="):
        _trainer(tmp_path, logger_backend=logger)


def test_gradient_norms_are_logged_when_asked_for(tmp_path: Path) -> None:
    """Every so many steps, and not otherwise."""
    quick_training(tmp_path / "none", logger_backend="csv")
    every = {"log_grad_norm": True, "grad_norm_log_freq": 1}
    quick_training(tmp_path / "every", every, logger_backend="csv")
    quick_training(tmp_path / "second", {**every, "grad_norm_log_freq": 2}, logger_backend="csv")

    counts = [
        sum(float(row.get("gradient_norm") or 0.0) > 0 for row in metrics_rows(tmp_path / name))
        for name in ("none", "every", "second")
    ]
    assert counts == [0, 3, 2]


LONG: dict[str, object] = {"epochs": 40, "scheduler": "CosineAnnealing", "lr_min_ratio": 0.01}


def test_a_time_limit_ends_the_run_cleanly(tmp_path: Path) -> None:
    """After the step in which it is reached, in the middle of an epoch too, its schedule gone through by the time."""
    run = observed_training(payload_for(tmp_path, LONG, max_time="00:00:00:01"), clock=FakeClock(step_s=1 / 16))

    rates = [rates["network"] for rates in run.observer.rates]
    cosine = [0.5 * (1 + math.cos(math.pi * step / 16)) for step in range(16)]
    assert rates == pytest.approx([2e-3 * (0.01 + 0.99 * factor) for factor in cosine])
    assert [row.steps for row in run.model.history] == [3, 6, 9, 12, 15, 16]
    assert not run.trainer.interrupted


def test_a_time_limit_counts_the_rounds_of_the_probe(tmp_path: Path) -> None:
    """However many are asked for, half of the time is left for the training."""
    settings = {"epochs": 200, "n_groups": 2, "probe_rounds": 200}

    run = observed_training(payload_for(tmp_path, settings, max_time="00:00:00:04"), clock=FakeClock(look_s=1 / 16))

    assert 2.0 <= run.observer.times_s[0] < 2.5
    assert 3.5 < run.observer.times_s[-1] < 4.5
    assert len(run.model.history) > 1


def test_a_step_is_taken_however_late(tmp_path: Path) -> None:
    """Where preparing has used up the limit, there still is a trained model, not an untrained one."""
    run = observed_training(payload_for(tmp_path, LONG, max_time="00:00:00:01"), clock=FakeClock(look_s=10.0))

    assert len(run.observer.batches) == 1
    assert [row.steps for row in run.model.history] == [1]


def test_a_run_that_is_taken_up_has_its_limit_once_more(tmp_path: Path) -> None:
    """As many seconds as it is given now, however many there were before; its schedule is that of both together."""
    payload = payload_for(tmp_path, LONG, max_time="00:00:00:01", enable_checkpointing=True)
    first = observed_training(payload, clock=FakeClock(step_s=1 / 16))
    payload = payload_for(tmp_path, LONG, max_time="00:00:00:01", resume=tmp_path / "checkpoints" / "last.ckpt")

    rest = observed_training(payload, clock=FakeClock(step_s=1 / 16))

    rates = [rates["network"] for rates in rest.observer.rates]
    cosine = [0.5 * (1 + math.cos(math.pi * step / 32)) for step in range(16, 32)]
    assert rates == pytest.approx([2e-3 * (0.01 + 0.99 * factor) for factor in cosine])
    assert rest.model.history[: len(first.model.history)] == first.model.history


def test_a_second_run_leaves_no_checkpoint_of_the_first(tmp_path: Path) -> None:
    """Whether it writes checkpoints or not; one that goes on from there may leave what it started from."""

    def last() -> tuple[list[str], int | None]:
        names = _checkpoints(tmp_path)
        file = tmp_path / "checkpoints" / "last.ckpt"
        return [name for name in names if name.startswith("last")], (
            torch.load(file, weights_only=True)["epoch"] if file.exists() else None
        )

    quick_training(tmp_path, {"epochs": 3}, enable_checkpointing=True)
    quick_training(tmp_path, {"epochs": 2}, enable_checkpointing=True)
    assert last() == (["last.ckpt"], 1)
    going_on = {"resume": tmp_path / "checkpoints" / "last.ckpt", "enable_checkpointing": False}
    quick_training(tmp_path, {"epochs": 3}, **going_on)
    assert last() == (["last.ckpt"], 1)
    quick_training(tmp_path, {"epochs": 1}, enable_checkpointing=False)
    assert last() == ([], None)


@pytest.mark.parametrize(("epochs", "refused"), [(1, True), (2, False)])
def test_fewer_epochs_than_done_are_refused(tmp_path: Path, epochs: int, refused: bool) -> None:
    """The message has both numbers; as many as done leave everything as it was."""
    first = quick_training(tmp_path, {"epochs": 2}, enable_checkpointing=True)
    payload = payload_for(tmp_path, {"epochs": epochs}, resume=tmp_path / "checkpoints" / "last.ckpt")

    if refused:
        with pytest.raises(ConfigError, match=r"epochs: expected at least the 2 that .*last\.ckpt has .*, found 1"):
            train(payload, tiny_scan())
    else:
        assert same(train(payload, tiny_scan()), first)


def test_a_run_is_taken_up_where_it_stopped(tmp_path: Path) -> None:
    """From a checkpoint half way, the rest of the run gives the whole run's result, bit for bit."""
    settings: dict[str, object] = {"epochs": 4, "scheduler": "CosineAnnealing"}
    whole = quick_training(tmp_path, settings, enable_checkpointing=True, checkpoint_save_top_k=-1)
    (half,) = (tmp_path / "checkpoints").glob("epoch=1-*")

    rest = observed_training(payload_for(tmp_path / "rest", settings, enable_checkpointing=True, resume=half))

    assert len(rest.observer.batches) == 6
    assert [row.epoch for row in rest.model.history] == [0, 1, 2, 3]
    np.testing.assert_array_equal(weights(rest.model), weights(whole))
    assert same(rest.model, whole)


def test_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    """The message names the file."""
    with pytest.raises(ConfigError, match=r"resume: expected a checkpoint .*nowhere\.ckpt"):
        quick_training(tmp_path, resume=tmp_path / "nowhere.ckpt")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 torn"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    """Whatever is wrong with the file, the message names it."""
    file = tmp_path / "bad.ckpt"
    file.write_bytes(content)

    with pytest.raises(ConfigError, match=r"resume: expected a checkpoint .*bad\.ckpt"):
        quick_training(tmp_path, resume=file)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    """The message names a weight that differs."""
    quick_training(tmp_path / "small", enable_checkpointing=True)
    checkpoint = tmp_path / "small" / "checkpoints" / "last.ckpt"

    with pytest.raises(ConfigError, match=r"resume\.generator\..*weight: expected"):
        quick_training(tmp_path / "large", {"n_filters_scale": 2}, resume=checkpoint)
