"""Laws of the command line: a flag changes its own setting and nothing else, and every text has an answer."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ptycho_adapters.cli import parse
from ptycho_adapters.command_line.flags import Flag, flags
from ptycho_adapters.command_line.settings_file import read_settings
from ptycho_adapters.command_line.text_values import is_switch
from ptycho_adapters.command_line.usage import UsageError
from ptycho_adapters.commands.train import read_request
from ptycho_core.config.backend_limits import LIMITS
from ptycho_core.config.bridge import settings_of
from ptycho_core.config.overrides import Layer
from ptycho_core.config.payload import ScanFacts, resolve_training
from ptycho_core.config.serialize import json_value
from ptycho_core.config.table import TRAINING
from ptycho_core.errors import ConfigError, ScanFileError
from strategies_config import JSON, free, of_setting, settings_of_run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ptycho_core import TrainingPayload

ARGUMENTS = {"train_data_file", "test_data_file", "output_dir", "model_path"}
ALL_FLAGS = flags(TRAINING)
FREE = {info.key for info in free(TRAINING)} - ARGUMENTS
FREE_FLAGS = [flag for flag in ALL_FLAGS if flag.info.key in FREE]
# Nobody has counted its patterns: what few of them change has tests of its own.
FACTS = ScanFacts(path=Path("scan.npz"), N=64)


def resolved(*arguments: str) -> TrainingPayload:
    """Resolve a command line over the facts of a scan."""
    request = read_request(parse(["train", *arguments])[1])
    cli = dict(request.cli) if request.said("n_groups") is not None else {"n_groups": 16, **request.cli}
    with request.resolving():
        return resolve_training(FACTS, cli=cli, output_dir=Path("out"))


def typed_text(value: object) -> str:
    """Return a value as a user types it, exactly."""
    if isinstance(value, tuple):
        return ",".join(map(typed_text, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


def hyphens_or_not(flag: Flag, *, hyphens: bool) -> str:
    return "--" + (flag.name.replace("_", "-") if hyphens else flag.name)


@given(data=st.data(), hyphens=st.booleans())
def test_a_flag_changes_its_setting_and_nothing_else(data: st.DataObject, hyphens: bool) -> None:
    """Whatever the name, the spelling and the value: one value differs, and it comes from the command line.

    A backend takes along what nobody chose and it does not honour, which then comes from the backend.
    """
    flag = data.draw(st.sampled_from(FREE_FLAGS))
    spelled = TRAINING.spelled(flag.name, data.draw(of_setting(flag.info)))
    text = typed_text(spelled)
    assume(text.lower() != "none" or spelled is None)
    expected, problems = TRAINING.translate(flag.name, spelled, "")
    assert not problems
    option = hyphens_or_not(flag, hyphens=hyphens)
    if is_switch(flag.annotation) and isinstance(spelled, bool) and data.draw(st.booleans()):
        arguments = [option if spelled else option.replace("--", "--no_", 1)]
    else:
        arguments = [f"{option}={text}"]

    before, after = resolved(), resolved(*arguments)

    _assert_changed(before, after, flag.info.key, expected)


def _assert_changed(before: TrainingPayload, after: TrainingPayload, key: str, value: object) -> None:
    """Assert that a setting has a value, and nothing else differs but what nobody chose and the backend cannot do."""
    known = settings_of(*before.records)
    limits = LIMITS[after.pt_training_config.backend].items() if key == "backend" else ()
    moved = {name: limit.instead for name, limit in limits if name in known and not limit.honours(known[name])}
    assert settings_of(*after.records) == {**known, **moved, key: value}
    assert dict(after.provenance) == {**before.provenance, **dict.fromkeys(moved, Layer.BACKEND), key: Layer.CLI}


@pytest.mark.parametrize("backend", sorted(LIMITS))
def test_a_backend_changes_itself_and_what_it_takes_along(backend: str) -> None:
    """Each of them, whatever is drawn above."""
    _assert_changed(resolved(), resolved(f"--backend={backend}"), "backend", backend)


@given(flag=st.sampled_from(ALL_FLAGS), text=st.text(max_size=12))
def test_every_text_of_every_flag_has_an_answer(flag: Flag, text: str) -> None:
    """A value is accepted or refused by name; no other error comes through."""
    with suppress(ConfigError, UsageError, ScanFileError, FileNotFoundError):
        payload = resolved(f"--{flag.name}={text}")
        assert payload.provenance[flag.info.key] in {Layer.CLI, Layer.EXPLICIT}


@given(arguments=st.lists(st.sampled_from(["train", "--N", "--", "--no-x", "-h", "=", "--x=1"]) | st.text(max_size=5)))
def test_every_command_line_is_understood_or_refused(arguments: list[str]) -> None:
    """Parsing gives a command with its flags, a usage error, or the help."""
    with suppress(UsageError, SystemExit):
        command, typed = parse(arguments)
        assert command == arguments[0]
        assert "command" not in typed


def toml(settings: Mapping[str, object]) -> str:
    """Write settings as TOML; JSON's scalars and lists are TOML's too, and none has to be said as a word."""
    lines = []
    for name, value in settings.items():
        lines.append(f"{name} = {json.dumps('none' if value is None else json_value(value))}")
    return "\n".join(lines)


def lines(values: Mapping[str, object]) -> str:
    """Write values as JSON under their names, which is TOML often enough."""
    return "\n".join(f"{name} = {json.dumps(value)}" for name, value in values.items())


@given(text=st.text(max_size=60) | st.dictionaries(st.sampled_from(sorted(TRAINING.names)), JSON).map(lines))
def test_every_file_is_understood_or_refused(text: str) -> None:
    """Any text gives settings by known names, or an error that names the file."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "run.toml"
        path.write_text(text, encoding="utf-8")
        try:
            read = read_settings(path, TRAINING)
        except ConfigError as error:
            assert str(path) in str(error)  # noqa: PT017 - success is fine too
        else:
            assert read.keys() <= TRAINING.names.keys()


@given(settings=settings_of_run(TRAINING, groups=True))
def test_a_file_says_what_the_settings_say(settings: dict[str, object]) -> None:
    """Settings written as TOML and read again resolve to the same run."""
    assume(not any(isinstance(value, str | Path) and str(value).lower() == "none" for value in settings.values()))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "run.toml"
        path.write_text(toml(settings), encoding="utf-8")
        read = read_settings(path, TRAINING)

    direct = resolve_training(FACTS, file=settings, output_dir=Path("out"))
    through_file = resolve_training(FACTS, file=read, output_dir=Path("out"))

    assert settings_of(*through_file.records) == settings_of(*direct.records)
    assert dict(through_file.provenance) == dict(direct.provenance)
