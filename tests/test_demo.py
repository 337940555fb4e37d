"""The demonstration: its plan is runnable, and a step that fails ends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ptycho_adapters import demo, legacy
from ptycho_adapters.cli import parse
from ptycho_adapters.command_line.flags import read_flags
from ptycho_adapters.commands import simulate, train
from ptycho_core.config.overrides import Layer, resolve
from ptycho_core.config.table import TRAINING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def arguments(command: str, flags: Mapping[str, str]) -> list[str]:
    return [command, *(part for name, value in flags.items() for part in (f"--{name}", value))]


@pytest.mark.parametrize("made", [demo.TRAINING_OBJECT, *demo.UNSEEN_OBJECTS.values()])
def test_the_scans_of_the_plan_can_be_made(made: Mapping[str, str]) -> None:
    """Every simulation is valid, of 64 px, with sub-pixel positions."""
    config = simulate.read_config(parse(arguments("simulate", {**demo.SCAN, **made}))[1])

    assert config.N == 64
    assert config.jitter_px > 0
    assert not config.whole_pixel


def test_no_object_of_the_plan_is_seen_twice() -> None:
    """Training and reconstruction have different objects."""
    objects = [demo.TRAINING_OBJECT, *demo.UNSEEN_OBJECTS.values()]

    assert len({(made["object-kind"], made["seed"]) for made in objects}) == len(objects)


def test_the_training_of_the_plan_is_valid_and_bounded_in_time() -> None:
    """Every flag is known and accepted, and the training ends by the clock."""
    typed = read_flags(parse(arguments("train", demo.TRAINING))[1], TRAINING)

    resolution = resolve({Layer.CLI: typed}, TRAINING)

    assert resolution.values["max_time"] == "00:00:01:30"
    assert train.REQUIRED - {"n_groups"} == {"train_data_file", "output_dir"}


def test_a_failing_step_ends_the_demonstration_with_its_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing goes on after an error, and the exit code is that of the step."""
    (tmp_path / "file").write_text("in the way")

    with legacy.legacy_scope():
        code = demo.main(["--output-dir", str(tmp_path / "file")])

    assert code == 2
    err = capsys.readouterr().err
    assert "demo: simulate ended with exit code 2" in err
    assert "==> train" not in err
