"""Settings of the execution record: each one changes the Trainer, what is written, or when it ends."""

from __future__ import annotations

import importlib.util
import re
from contextlib import nullcontext
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from ptycho_adapters.common.checkpoint_files import BEFORE_LAST
from ptycho_adapters.common.schedule import TimeLimit
from ptycho_adapters.torch_backend import reconstruct, train
from ptycho_adapters.torch_backend.execution import accelerator_name, check_hardware, pick_device
from ptycho_adapters.torch_backend.framework import Torch
from ptycho_adapters.torch_backend.training.callbacks import LossHistory
from ptycho_adapters.torch_backend.training.trainer import build_trainer
from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig
from ptycho_core.errors import ConfigError, DependencyError
from torch_sample import (
    metrics_rows,
    module_of,
    observed_training,
    payload_for,
    quick_training,
    same,
    tiny_scan,
)

if TYPE_CHECKING:
    from pathlib import Path

    from lightning import Trainer


def _trainer(folder: Path, **execution: object) -> Trainer:
    return build_trainer(payload_for(folder, {}, **execution), LossHistory(), TimeLimit(), validates=True)


def _checkpoints(folder: Path) -> list[str]:
    """All but the one before the last."""
    return sorted(file.name for file in (folder / "checkpoints").iterdir() if file.name != BEFORE_LAST)


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
    """Before anything slow, and the message holds the install command."""
    with pytest.raises(DependencyError, match="accelerator='tpu' needs the package torch_xla: pip install torch_xla"):
        train(payload_for(tmp_path, accelerator="tpu"), tiny_scan())


def test_cuda_is_lightning_s_gpu() -> None:
    """Both words mean the same device."""
    assert [accelerator_name(name) for name in ("cuda", "gpu", "cpu", "auto")] == ["gpu", "gpu", "cpu", "auto"]


def test_devices_are_counted(tmp_path: Path) -> None:
    """Two processes are two processes."""
    assert [_trainer(tmp_path, devices=n).num_devices for n in (1, 2)] == [1, 2]


def test_one_device_is_one_process_in_a_job_of_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job of SLURM with four tasks trains on one device as any machine does, and is not asked to be one of four."""
    for name, value in {
        "JOB_ID": "7",
        "JOB_NAME": "night",
        "NTASKS_PER_NODE": "4",
        "PROCID": "2",
        "LOCALID": "2",
    }.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    trainer = _trainer(tmp_path)
    assert (trainer.world_size, trainer.global_rank) == (1, 0)


def test_processes_do_not_send_each_other_what_was_measured(tmp_path: Path) -> None:
    """Integer patterns, which gloo has no word for, stay with each; networks and probes are sent."""
    scan = attrs.evolve(tiny_scan(), patterns=tiny_scan().patterns.astype(np.uint16))
    module = module_of(payload_for(tmp_path), scan)
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        shared = DistributedDataParallel(module)
    finally:
        distributed.destroy_process_group()
    sent = {name for name, _ in (*module.named_parameters(), *module.named_buffers())} - shared.parameters_to_ignore
    assert any(name.startswith("generator.") for name in sent)
    assert not any(name.startswith("patterns.") for name in sent)


def test_the_strategy_is_the_one_asked_for(tmp_path: Path) -> None:
    """`auto` is a single device here; `ddp` is what it says."""
    assert isinstance(_trainer(tmp_path).strategy, SingleDeviceStrategy)
    assert isinstance(_trainer(tmp_path, strategy="ddp").strategy, DDPStrategy)


def test_an_unknown_strategy_is_refused(tmp_path: Path) -> None:
    """The message quotes what was asked for."""
    with pytest.raises(ConfigError, match="strategy='magic'"):
        _trainer(tmp_path, strategy="magic")


@pytest.mark.parametrize(
    ("capabilities", "taken"),
    [({"avx512_bf16": True}, "bf16-mixed"), ({"amx_bf16": True}, "bf16-mixed"), ({"avx512_bf16": False}, "32-true")],
)
def test_a_precision_is_chosen_for_the_processor(
    tmp_path: Path, capabilities: dict[str, bool], taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`auto` is bfloat16 where there are instructions for it; where there are none, who asks for it is warned."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)

    assert _trainer(tmp_path, precision="auto", accelerator="cpu").precision == taken
    assert same(quick_training(tmp_path, precision="auto"), quick_training(tmp_path, precision=taken))
    warned = nullcontext() if taken == "bf16-mixed" else pytest.warns(UserWarning, match="without instructions for bf")
    with warned:
        check_hardware(PyTorchExecutionConfig(accelerator="cpu", precision="bf16-mixed"))


@pytest.mark.filterwarnings("ignore:precision 'bf16-mixed' on a processor without")
def test_precision_changes_the_arithmetic(tmp_path: Path) -> None:
    """bfloat16 in the network gives other weights, close to those of float32."""
    full, mixed = (quick_training(tmp_path, precision=name) for name in ("32-true", "bf16-mixed"))

    assert not same(full, mixed)
    assert mixed.history[-1].train == pytest.approx(full.history[-1].train, rel=0.05)


@pytest.mark.filterwarnings("ignore:precision 'bf16-mixed' on a processor without")
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
    left = {"position_refinement": "none", "orientation_search": "never", "probe_search": "never"}
    model = quick_training(tmp_path, {"probe_rounds": 1, **left}, enable_progress_bar=shown)
    training = capfd.readouterr()
    reconstruct(
        model,
        tiny_scan(),
        execution_config=PyTorchExecutionConfig(enable_progress_bar=shown),
        inference_config=TorchInferenceConfig(probe_rounds=1, **left),  # type: ignore[arg-type]
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
    with pytest.raises(DependencyError, match=logger):
        Torch().check(payload_for(tmp_path, logger_backend=logger).execution_config)
    monkeypatch.setattr("ptycho_adapters.torch_backend.training.trainer.build_module", pytest.fail)
    with pytest.raises(DependencyError, match=logger):
        quick_training(tmp_path, logger_backend=logger)


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
