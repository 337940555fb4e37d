"""Configuration files and what `--print-config` says about the sources of settings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from cli_samples import N_PATTERNS, tiny_scan, training_payload
from factory_samples import empty_model
from ptycho_adapters import legacy
from ptycho_adapters.cli import main, parse
from ptycho_adapters.command_line.settings_file import read_settings
from ptycho_adapters.commands import infer
from ptycho_adapters.wording import source_in_words
from ptycho_core.config.overrides import Layer
from ptycho_core.config.table import INFERENCE, TRAINING
from ptycho_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


PATHS = ("test_data_file", "output_dir", "model_path")


@pytest.fixture(autouse=True)
def parameters() -> Iterator[None]:
    with legacy.legacy_scope():
        yield


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_scan(tmp_path_factory.mktemp("scan"))


def config(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text)
    return path


def test_flags_outrank_the_file_and_the_file_outranks_the_rest(scan: Path, tmp_path: Path) -> None:
    """Each layer sets what the ones above it leave open, and is named as the source."""
    path = config(tmp_path, "nepochs = 7\nbatch-size = 8\nnphotons = 5e8\n")

    payload = training_payload(scan, tmp_path / "out", "--config", str(path), "--epochs", "9")

    assert (payload.pt_training_config.epochs, payload.pt_training_config.batch_size) == (9, 8)
    assert payload.tf_training_config.nphotons == 5e8
    found = {name: payload.provenance[name] for name in ("epochs", "batch_size", "nphotons", "N", "momentum")}
    assert found == {
        "epochs": Layer.CLI,
        "batch_size": Layer.FILE,
        "nphotons": Layer.FILE,
        "N": Layer.SCAN,
        "momentum": Layer.TORCH_DEFAULT,
    }


def test_paths_are_of_whoever_named_them(scan: Path, tmp_path: Path) -> None:
    """Those that were typed are of the command line, those of a file are the file's, and weights that nobody named are
    a default.
    """
    path = config(tmp_path, f"output_dir = '{tmp_path / 'out'}'\n")
    line = ["infer", "--test-data", str(scan), "--config", str(path)]
    model = empty_model(tmp_path / "model")

    with pytest.warns(UserWarning, match="is empty"):
        named = infer.plan(infer.read_request(parse([*line, "--model-path", str(model)])[1]))
    shipped = infer.plan(infer.read_request(parse(line)[1]))

    for payload, source in ((named, "command line"), (shipped, "default")):
        sources = {key: source_in_words(payload.provenance[key]) for key in PATHS}
        assert sources == {"test_data_file": "command line", "output_dir": "configuration file", "model_path": source}
        assert not {*PATHS} & payload.overrides_applied.keys()


def test_paths_and_groups_may_come_from_the_file(scan: Path, tmp_path: Path) -> None:
    """A file can hold a whole run."""
    out = tmp_path / "o"
    path = config(tmp_path, f"[files]\ntrain_data_file = '{scan}'\noutput_dir = '{out}'\n[data]\nn_groups = 5\n")

    assert main(["train", "--config", str(path), "--print-config", "--json"]) == 0
    assert not out.exists()


def test_sections_and_none_are_read(tmp_path: Path) -> None:
    """Tables only group; the word none stands for no value where that is one, and nowhere else."""
    path = config(
        tmp_path,
        "seed = 3\n[training]\nlearning-rate = 1e-4\ngradient_clip_val = 'none'\n"
        "[execution]\nlogger_backend = 'none'\ndevices = 'auto'\n[recorded]\nnotes = 'none'\n",
    )

    assert read_settings(path, TRAINING) == {
        "seed": 3,
        "learning_rate": 1e-4,
        "gradient_clip_val": None,
        "logger_backend": None,
        "devices": "auto",
        "notes": "none",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("learnig_rate = 1.0", "learning_rate"),
        ("[trainning]\nseed = 1", r"did you mean \[training\]"),
        ("[model]\nlearnig_rate = 1.0", r"model\.learnig_rate"),
        ("seed = 1\n[execution]\nseed = 2", "every setting once"),
        ("C = 4", "derived value"),
        ("seed = = 1", "expected TOML"),
        ("[optimizer]\nname = 'adam'", "one of the tables"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    """Unknown names and tables are errors with what looks like them, and so is what is not TOML."""
    with pytest.raises(ConfigError, match=expected) as caught:
        read_settings(config(tmp_path, text), TRAINING)

    assert str(tmp_path / "run.toml") in str(caught.value)


@pytest.mark.parametrize("text", ["batch_size = '8'", "batch_size = 3", "nepochs = true"])
def test_a_wrong_value_names_the_file(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    """Text is no number in a file, and the message says where it stands."""
    path = config(tmp_path, text)

    code = main(f"train --train-data-file {scan} --output-dir {tmp_path / 'o'} --n-groups 8 --config {path}".split())

    assert code == 2
    assert f"{path}: {text.split(' ', maxsplit=1)[0]}: expected" in capsys.readouterr().err


def test_a_deprecated_name_in_a_file_is_told(scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The advice names the file."""
    path = config(tmp_path, "device = 'cpu'")

    payload = training_payload(scan, tmp_path / "out", "--config", str(path))

    assert payload.execution_config.accelerator == "cpu"
    assert capsys.readouterr().err == f"warning: {path}: device is deprecated, use accelerator\n"


def test_the_printed_configuration_has_every_setting_with_its_source(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For machines: value, unit and source of each key that a training reads; nothing is written."""
    path = config(tmp_path, "batch_size = 8")
    line = f"train --train-data-file {scan} --output-dir {tmp_path / 'o'} --n-groups 8 --gridsize 1 --config {path}"

    assert main([*line.split(), "--print-config", "--json"]) == 0

    settings = json.loads(capsys.readouterr().out)["settings"]
    assert settings.keys() == {info.key for info in TRAINING if TRAINING.reads(info)}
    assert {key: settings[key]["source"] for key in ("train_data_file", "gridsize", "batch_size", "N", "momentum")} == {
        "train_data_file": "cli",
        "gridsize": "cli",
        "batch_size": "file",
        "N": "scan",
        "momentum": "torch_default",
    }
    assert settings["N"]["value"] == 64
    assert settings["N"]["unit"] == "px"
    assert settings["train_data_file"]["value"] == str(scan)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(("flags", "groups"), [("", (N_PATTERNS, "scan")), ("--n-groups 5", (5, "cli"))])
def test_the_printed_configuration_of_a_reconstruction_is_what_it_reads(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: str, groups: tuple[int, str]
) -> None:
    """Settings of a training stay out unless they were typed; all patterns are a fact of the scan, not of a flag."""
    line = f"infer --test-data {scan} --output-dir {tmp_path / 'o'} --learning-rate 0.0002 {flags}"

    assert main([*line.split(), "--print-config", "--json"]) == 0

    settings = json.loads(capsys.readouterr().out)["settings"]
    assert settings.keys() == {info.key for info in INFERENCE if INFERENCE.reads(info)} | {"learning_rate"}
    assert (settings["n_groups"]["value"], settings["n_groups"]["source"]) == groups
    assert settings["learning_rate"]["source"] == "cli"


def test_the_printed_configuration_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    """Without any argument it still shows the defaults, and what has to be given."""
    assert main(["train", "--print-config", "--json"]) == 0

    settings = json.loads(capsys.readouterr().out)["settings"]
    missing = {key for key, entry in settings.items() if entry["source"] == "required"}
    assert missing == {"train_data_file", "output_dir", "n_groups"}


def test_the_printed_table_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """Settings, values, units and sources stand in columns under the titles of the help."""
    assert main(["train", "--print-config", "--probe-mask-sigma", "2.5"]) == 0

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["probe_mask_sigma", "2.5", "px", "command", "line"] in lines
    assert ["n_groups", "-", "required"] in lines
    assert ["data", "and", "sampling"] in lines


def test_a_wrong_setting_is_found_while_printing(capsys: pytest.CaptureFixture[str]) -> None:
    """What a run would refuse is not printed as if it were fine."""
    assert main(["train", "--print-config", "--optimizer", "magic"]) == 2
    assert "--optimizer" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["a = " + 100_000 * "[", "nepochs = " + 5_000 * "1"], ids=["nesting", "digits"])
def test_a_monstrous_file_is_refused(tmp_path: Path, text: str) -> None:
    """What the parser itself cannot bear is the file's fault, not a crash."""
    path = tmp_path / "run.toml"
    path.write_text(text)

    with pytest.raises(ConfigError, match="expected TOML"):
        read_settings(path, TRAINING)
