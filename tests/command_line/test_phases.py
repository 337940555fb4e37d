"""Flags of one kind of run on the command line of the other."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from cli_samples import inference_payload, tiny_scan, training_payload
from factory_samples import empty_model
from ptycho_adapters import legacy
from ptycho_adapters.cli import main
from ptycho_core.config.knob import Effect
from ptycho_core.config.table import INFERENCE, OF_ARCHIVE, TRAINING
from ptycho_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def parameters() -> Iterator[None]:
    with legacy.legacy_scope():
        yield


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_scan(tmp_path_factory.mktemp("scan"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return empty_model(tmp_path / "model")


def listed(command: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """Return the settings in a command's help."""
    assert main([command, "--help"]) == 0
    flags = set(re.findall(r"^  (--[\w-]+)", capsys.readouterr().out, flags=re.MULTILINE))
    names = {flag[2:].replace("-", "_") for flag in flags}
    return names & {*TRAINING.names, *INFERENCE.names}


def test_the_help_of_a_reconstruction_lists_what_it_reads(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither settings of a training nor those that the model brings along are advertised."""
    found = listed("infer", capsys)

    assert found >= {
        "model_path",
        "test_data_file",
        "output_dir",
        "n_groups",
        "n_subsample",
        "subsample_seed",
        "seed",
        "accelerator",
        "backend",
        "precision",
        "num_threads",
        "enable_progress_bar",
        "inference_batch_size",
        "probe_source",
        "patch_weighting",
    }
    assert not found & OF_ARCHIVE
    # The word for the address of a cluster is that of a training's learning rates too.
    elsewhere = {info.key for info in TRAINING if not INFERENCE.reads(info) or info.effect is Effect.LEGACY} - {
        "scheduler"
    }
    assert not found & elsewhere
    assert not found & {"num_workers", "learning_rate", "logger_backend", "window"}


def test_the_help_of_a_training_lists_what_it_reads(capsys: pytest.CaptureFixture[str]) -> None:
    """What only a reconstruction reads is not there; everything else that can be chosen is."""
    found = listed("train", capsys)

    assert not found & {"inference_batch_size", "probe_source", "patch_weighting", "model_path"}
    assert found >= {"learning_rate", "num_workers", "gridsize", "checkpoint_mode", "accelerator", "subsample_seed"}


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("--learning-rate 1e-4", "--learning-rate: expected 0.0002, the default, found 0.0001; learning_rate belongs"),
        ("--torch-scheduler Exponential", "--scheduler: "),
        ("--checkpoint-monitor train_loss", "--checkpoint-monitor-metric: "),
        ("--max-time 00:00:10:00", "--max-time: "),
        ("--nepochs 3", "--nepochs belongs to ptycho train"),
        ("--epochs=3", "--epochs belongs to ptycho train"),
        ("--no-probe-trainable", "--no-probe-trainable belongs to ptycho train"),
        ("--batch-size 3", "--batch-size belongs to ptycho train"),
        ("--learnig-rate 3", "--learnig-rate is not a flag of this command; did you mean --learning-rate"),
    ],
)
def test_a_reconstruction_refuses_the_flags_of_a_training(
    scan: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], typed: str, told: str
) -> None:
    """One message names the flag and the command that it belongs to; nothing is written."""
    line = f"infer --model-path {model} --test-data {scan} --output-dir {tmp_path / 'out'} {typed}"

    assert main(line.split()) == 2

    message = capsys.readouterr().err
    assert told in message
    assert "Traceback" not in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("--inference-batch-size 4", "--inference-batch-size: expected None, the default, found 4"),
        ("--probe-source scan", "probe_source belongs to a reconstruction, a training does not read it"),
        ("--model-path somewhere", "--model-path belongs to ptycho infer"),
    ],
)
def test_a_training_refuses_the_flags_of_a_reconstruction(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], typed: str, told: str
) -> None:
    """The same the other way round."""
    line = f"train --train-data-file {scan} --output-dir {tmp_path / 'out'} --n-groups 4 {typed}"

    assert main(line.split()) == 2
    assert told in capsys.readouterr().err


def test_a_file_of_a_training_is_none_of_a_reconstruction(model: Path, scan: Path, tmp_path: Path) -> None:
    """Every setting that is out of place is named with its file."""
    path = tmp_path / "run.toml"
    path.write_text("seed = 1\n[training]\nnepochs = 3\noptimizer = 'sgd'\n")

    with pytest.raises(ConfigError) as error:
        inference_payload(model, scan, tmp_path / "out", "--config", str(path))

    assert error.value.subject == str(path)
    assert [str(problem) for problem in error.value.problems] == [
        f"{name}: expected a setting of a reconstruction, found one of a training; leave it out"
        for name in ("training.nepochs", "training.optimizer")
    ]


def test_flags_that_ask_for_nothing_are_fine(model: Path, scan: Path, tmp_path: Path) -> None:
    """A reconstruction logs nothing and writes no checkpoints, so it may be told not to."""
    with pytest.warns(UserWarning, match="is empty"):
        payload = inference_payload(
            model, scan, tmp_path / "out", "--logger", "none", "--disable-checkpointing", "--learning-rate", "0.0002"
        )

    assert payload.execution_config.logger_backend is None


def test_workers_of_a_reconstruction_are_told_to_be_idle_once(
    model: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The flag works as it always did, with one line of advice on standard error."""
    with pytest.warns(UserWarning, match="is empty"):
        payload = inference_payload(model, scan, tmp_path / "out", "--num-workers", "4")

    assert payload.execution_config.num_workers == 4
    told = "warning: --num-workers has no effect on a reconstruction: its patterns are on the device\n"
    assert capsys.readouterr().err == told
    training_payload(scan, tmp_path / "out", "--num-workers", "4")
    assert capsys.readouterr().err == ""
