"""Stages in the log, on standard error and in a file; where the time of a run went."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest

from cli_samples import N_PATTERNS, tiny_scan
from ptycho_adapters import legacy
from ptycho_adapters.cli import main
from ptycho_adapters.stages import STAGES, in_words, said_by, say, stage

if TYPE_CHECKING:
    from collections.abc import Iterator

QUICK = ("--probe-rounds", "0", "--position-refinement", "none", "--n-subsample", "9")


@pytest.fixture(autouse=True)
def parameters() -> Iterator[None]:
    with legacy.legacy_scope():
        yield


@attrs.frozen
class Ran:
    """A run with a log and a profile: its lines, its folder."""

    lines: list[dict[str, object]]
    folder: Path


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("logs")
    log, out = folder / "out" / "log.jsonl", folder / "out"
    flags = ("--log-file", str(log), "--profile")
    with legacy.legacy_scope():
        code = main(["infer", "--test-data", str(tiny_scan(folder)), "--output-dir", str(out), *QUICK, *flags])
    assert code == 0
    return Ran([json.loads(line) for line in log.read_text().splitlines()], out)


def test_a_stage_says_what_there_was_and_how_long_it_took(caplog: pytest.LogCaptureFixture) -> None:
    """One record when it ends, whatever becomes known in it included; a stage around it is named."""
    caplog.set_level(logging.INFO, logger=STAGES)

    with stage("outer"), stage("inner", patterns=3) as course:
        course.count(rounds=2)
    inner, outer = map(said_by, caplog.records)

    assert {**inner, "seconds": 0.0} == {"stage": "inner", "within": "outer", "seconds": 0, "patterns": 3, "rounds": 2}
    assert 0.0 <= float(inner["seconds"]) <= float(outer["seconds"])
    assert "within" not in outer


def test_a_stage_that_fails_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """The log of a run that ended early says where."""
    caplog.set_level(logging.INFO, logger=STAGES)

    with pytest.raises(ZeroDivisionError), stage("work"):
        _ = 1 / 0

    assert said_by(caplog.records[0])["failed"] == "ZeroDivisionError"


def test_pairs_can_be_told_apart() -> None:
    """Words with spaces or signs stand in quotes."""
    assert in_words({"stage": "error bars", "n": 3, "s": 0.123456}) == 'stage="error bars" n=3 s=0.1235'


def test_nobody_listens_nothing_is_made(caplog: pytest.LogCaptureFixture) -> None:
    """Without a flag a run says what it always said."""
    caplog.set_level(logging.WARNING)
    say("work", {"seconds": 1.0})

    assert not caplog.records


def test_a_log_file_has_a_line_of_json_for_each_stage(ran: Ran) -> None:
    """With times, counts and where each belongs; everything within the run."""
    stages = {str(line["stage"]): line for line in ran.lines if "stage" in line}

    assert set(stages) >= {"run", "reading", "screening", "inspection", "model", "preparation", "pass", "judgement"}
    assert stages["reading"]["patterns"] == N_PATTERNS
    assert stages["pass"]["patterns"] == 9
    assert stages["screening"]["within"] == "reading"
    assert stages["run"]["command"] == "infer"
    assert all(re.match(r"2\d{3}-\d\d-\d\dT.*\+00:00$", str(line["time"])) for line in ran.lines)


def test_a_log_file_has_what_was_said_too(ran: Ran) -> None:
    """The command, its notes and its warnings, each with its level."""
    messages = {str(line["message"]): line["level"] for line in ran.lines if "message" in line}

    assert messages["started"] == "info"
    assert any(text.startswith("reconstructing") for text in messages)
    assert all(level == "warning" for text, level in messages.items() if text.startswith("warning: "))


def test_the_level_is_that_of_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that fails says at which stage if it is asked to, and not otherwise; its log says why."""
    log, missing = tmp_path / "log.jsonl", str(tmp_path / "none.npz")
    command = ["infer", "--test-data", missing, "--output-dir", str(tmp_path / "out"), "--log-file", str(log)]

    assert main(command) == 2
    quiet = capsys.readouterr().err
    assert main([*command, "--log-level", "info"]) == 2
    told = capsys.readouterr().err

    assert "stage=" not in quiet
    assert "stage=run" in told
    last = json.loads(log.read_text().splitlines()[-1])
    assert (last["failed"], missing in last["reason"]) == ("FileNotFoundError", True)


def test_a_profile_says_what_the_time_was_for(ran: Ran) -> None:
    """The parts of a pass are there, they add up to the run, and there is a picture."""
    profile = json.loads((ran.folder / "profile.json").read_bytes())

    assert {"network", "transforms", "fields", "canvas", "data", "reading and writing"} <= set(profile["host_s"])
    assert sum(profile["host_s"].values()) == pytest.approx(profile["wall_s"], rel=0.05)
    assert {each["stage"] for each in profile["stages"]} >= {"pass", "files"}
    assert (ran.folder / "profile.png").stat().st_size > 1000


def test_a_training_says_what_its_epochs_did(tmp_path: Path) -> None:
    """Groups, epochs with steps and losses, and at level debug each step."""
    log, scan = tmp_path / "log.jsonl", str(tiny_scan(tmp_path))
    flags = ["--n-groups", "2", "--epochs", "2", "--initial-weights", "random", "--log-level", "debug", "--quiet"]
    command = ["train", "--train-data-file", scan, "--output-dir", str(tmp_path / "out"), *flags, *QUICK[:4]]

    assert main([*command, "--log-file", str(log)]) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    epochs = [line for line in lines if line.get("stage") == "epoch"]
    training = next(line for line in lines if line.get("stage") == "training")

    assert [line["number"] for line in epochs] == [1, 2]
    assert epochs[-1]["steps"] == training["steps"] == sum(line.get("stage") == "step" for line in lines)
    assert epochs[0]["train_loss"] > 0
    assert epochs[0]["within"] == "training"


def test_another_backend_cannot_be_watched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is refused before anything is read."""
    out = str(tmp_path / "out")
    flags = ["--backend", "tensorflow", "--profile"]

    assert main(["infer", "--test-data", str(tiny_scan(tmp_path)), "--output-dir", out, *flags]) == 2
    assert "--profile" in capsys.readouterr().err
