"""From flags to payloads: nothing stands between them but the parser and the factory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from cli_samples import N_PATTERNS, inference_payload, tiny_scan, training_payload
from ptycho_adapters import legacy
from ptycho_adapters.cli import main, parse
from ptycho_adapters.command_line.flags import flags, read_flags
from ptycho_adapters.command_line.parser import unknown_flags
from ptycho_adapters.command_line.text_values import read_text
from ptycho_core.config.overrides import Layer
from ptycho_core.config.table import INFERENCE, TRAINING, Table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def parameters() -> Iterator[None]:
    with legacy.legacy_scope() as cfg:
        cfg.clear()
        yield


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_scan(tmp_path_factory.mktemp("scan"))


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    """Return a folder with the empty archive of a model that is still to come."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "wts.h5.zip").touch()
    return folder


TRAINING_CASES: list[tuple[list[str], dict[str, object]]] = [
    (["--accelerator", "cpu"], {"accelerator": "cpu"}),
    (["--deterministic"], {"deterministic": True}),
    (["--no-deterministic"], {"deterministic": False}),
    (["--deterministic", "warn"], {"deterministic": "warn"}),
    (["--num-workers", "4"], {"num_workers": 4}),
    (["--learning-rate", "5e-4"], {"learning_rate": 5e-4}),
    (
        ["--accelerator", "gpu", "--no-deterministic", "--num-workers", "8", "--learning-rate", "1e-3"],
        {"accelerator": "gpu", "deterministic": False, "num_workers": 8, "learning_rate": 1e-3},
    ),
    (["--disable-checkpointing"], {"enable_checkpointing": False}),
    (["--checkpoint-save-top-k", "3"], {"checkpoint_save_top_k": 3}),
    (["--checkpoint-monitor", "train_loss"], {"checkpoint_monitor_metric": "train_loss"}),
    (["--checkpoint-mode", "max"], {"checkpoint_mode": "max"}),
    (["--early-stop-patience", "10"], {"early_stop_patience": 10}),
    (["--scheduler", "Exponential"], {"scheduler": "Exponential"}),
    (["--accumulate-grad-batches", "4"], {"accum_steps": 4}),
    (["--logger", "tensorboard"], {"logger_backend": "tensorboard"}),
    (["--logger", "none"], {"logger_backend": None}),
    (["--quiet"], {"enable_progress_bar": False}),
    (["--max-time", "00:00:04:00"], {"max_time": "00:00:04:00"}),
    (["--gradient-clip-val", "none"], {"gradient_clip_val": None}),
]


@pytest.mark.parametrize(("typed", "expected"), TRAINING_CASES, ids=lambda case: " ".join(map(str, case)))
def test_a_training_flag_reaches_the_execution_record(
    scan: Path, tmp_path: Path, typed: list[str], expected: dict[str, object]
) -> None:
    """What is typed is what the trainer is told, and its source is the command line."""
    payload = training_payload(scan, tmp_path / "out", *typed)

    assert {name: getattr(payload.execution_config, name) for name in expected} == expected
    assert {payload.provenance[name] for name in expected} == {Layer.CLI}


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["--accelerator", "cpu"], {"accelerator": "cpu"}),
        (["--num-workers", "4"], {"num_workers": 4}),
        (["--inference-batch-size", "32"], {"inference_batch_size": 32}),
        (
            ["--accelerator", "gpu", "--num-workers", "8", "--inference-batch-size", "64"],
            {"accelerator": "gpu", "num_workers": 8, "inference_batch_size": 64},
        ),
        (["--quiet"], {"enable_progress_bar": False}),
    ],
    ids=lambda case: " ".join(map(str, case)),
)
def test_an_inference_flag_reaches_the_execution_record(
    model_dir: Path, scan: Path, tmp_path: Path, typed: list[str], expected: dict[str, object]
) -> None:
    """What is typed is what the reconstruction is told."""
    with pytest.warns(UserWarning, match="is empty"):
        payload = inference_payload(model_dir, scan, tmp_path / "out", *typed)

    assert {name: getattr(payload.execution_config, name) for name in expected} == expected
    assert {payload.provenance[name] for name in expected} == {Layer.CLI}


def test_a_reconstruction_takes_all_patterns_unless_told(model_dir: Path, scan: Path, tmp_path: Path) -> None:
    """The number of groups is that of the patterns, or the one that was typed."""
    with pytest.warns(UserWarning, match="is empty"):
        untold = inference_payload(model_dir, scan, tmp_path / "out")
    with pytest.warns(UserWarning, match="is empty"):
        told = inference_payload(model_dir, scan, tmp_path / "out", "--n-groups", "5")

    assert (untold.tf_inference_config.n_groups, told.tf_inference_config.n_groups) == (N_PATTERNS, 5)


@pytest.mark.parametrize("table", [TRAINING, INFERENCE], ids=["train", "infer"])
def test_every_name_of_every_setting_is_a_flag(table: Table) -> None:
    """Keys and aliases are all accepted, in either spelling of the name, and nothing is set that was not typed."""
    command = "train" if table is TRAINING else "infer"

    names = [flag.name for flag in flags(table) if flag.info.key != "probe_mask_tensor"]
    options = [f"--{name if index % 2 else name.replace('_', '-')}=none" for index, name in enumerate(names)]
    # Any other word after it is the address of a cluster, where scans are reconstructed.
    options = [option.replace("scheduler=none", "scheduler=Default") for option in options]

    assert list(read_flags(parse([command, *options])[1], table)) == names
    assert read_flags(parse([command])[1], table) == {}


@pytest.mark.parametrize(
    ("typed", "name", "value"),
    [
        (["--batch_size=4"], "batch_size", 4),
        (["--probe-trainable", "False"], "probe_trainable", False),
        (["--probe_trainable", "true"], "probe_trainable", True),
        (["--grid-size", "3,3"], "grid_size", (3, 3)),
        (["--no-nll"], "nll", False),
        (["--N", "128"], "N", 128),
        (["--notes", "a_b--c"], "notes", "a_b--c"),
        (["--max-hidden-channels", "8"], "max_hidden_channels", 8),
        (["--torch-learning-rate", "1e-4"], "learning_rate", 1e-4),
        (["--devices", "auto"], "devices", "auto"),
        (["--devices", "2"], "devices", 2),
    ],
)
def test_a_text_is_read_as_its_setting_means_it(typed: list[str], name: str, value: object) -> None:
    """Numbers, switches, pairs and words have their types; hyphens in values are left alone."""
    found = read_flags(parse(["train", *typed])[1], TRAINING)

    assert found == {name: value}
    assert type(found[name]) is type(value)


def test_an_array_is_read_from_its_file(tmp_path: Path) -> None:
    """A mask is given as a file of numbers; a pickle or a missing file is refused by name."""
    mask = np.eye(4, dtype=np.float32)
    np.save(tmp_path / "mask.npy", mask)
    np.save(tmp_path / "pickled.npy", np.array([object()]), allow_pickle=True)
    annotation = TRAINING["probe_mask_tensor"].annotation

    read = read_text(str(tmp_path / "mask.npy"), annotation)

    assert isinstance(read, np.ndarray)
    np.testing.assert_array_equal(read, mask)
    with pytest.raises(ValueError, match=r"pickled\.npy"):
        read_text(str(tmp_path / "pickled.npy"), annotation)
    with pytest.raises(FileNotFoundError, match=r"none\.npy"):
        read_text(str(tmp_path / "none.npy"), annotation)


@pytest.mark.parametrize(
    ("typed", "expected", "told"),
    [
        (["--device", "cuda"], {"accelerator": "cuda"}, "--device is deprecated, use --accelerator"),
        (["--n_images", "8"], {"n_groups": 8}, "--n-images is deprecated, use --n-groups"),
        (
            ["--disable_mlflow"],
            {"logger_backend": None, "enable_progress_bar": False},
            "--disable-mlflow is deprecated, use --logger none --quiet",
        ),
        (
            ["--torch-num-workers", "2"],
            {"num_workers": 2},
            "--torch-num-workers is deprecated, use --num-workers",
        ),
    ],
)
def test_a_deprecated_flag_works_and_says_so_once(
    scan: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    typed: list[str],
    expected: dict[str, object],
    told: str,
) -> None:
    """Old scripts run on, with one line of advice on standard error."""
    payload = training_payload(scan, tmp_path / "out", *typed)

    assert {name: payload.overrides_applied[name] for name in expected} == expected
    assert capsys.readouterr().err == f"warning: {told}\n"


def test_two_spellings_that_disagree_are_refused(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither of two names of one setting wins silently."""
    code = main(
        f"train --train-data-file {scan} --output-dir {tmp_path / 'o'} --n-groups 4 --epochs 3 --max-epochs 4".split()
    )

    assert code == 2
    assert "--max-epochs: expected the same as epochs=3" in capsys.readouterr().err


def test_a_flag_is_not_named_in_its_own_place() -> None:
    """What looks like an unknown flag is one that the command has, in whatever spelling."""
    without, with_bar = ["--scan", "--unit"], ["--scan", "--unit", "--no-enable-progress-bar"]

    (said,) = unknown_flags(["--quiet"], without, {})
    assert said == "--quiet is not a flag of this command; did you mean --unit?"
    assert "did you mean --quiet" in next(iter(unknown_flags(["--quie"], with_bar, {})))
    assert "--quiet" not in next(iter(unknown_flags(["--quie"], without, {}))).partition(";")[2]
