"""What the README says to type: every command and the block of Python are run as they stand there, made short.

The scans that the README names are simulated, 16 patterns of 64 px each.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from page_commands import ONE_PASS, SHORT_PYTHON, code_of, lay_out, lines_of, short
from ptycho_adapters import legacy, read_product
from ptycho_adapters.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = (
    *("simulate", "prepare", "reconstruct", "refine", "live", "train"),
    *("infer", "evaluate", "convert", "inspect", "migrate"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scans that the README names."""
    folder = tmp_path_factory.mktemp("readme")
    lay_out(folder)
    return folder


@pytest.fixture(autouse=True)
def there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(folder)
    with legacy.legacy_scope():
        yield


def test_every_command_of_the_readme_is_among_those_that_are_run() -> None:
    """Wherever a command is mentioned, in whatever kind of block, it is one of the lines below."""
    said = re.findall(rf"\bptycho (?:{'|'.join([*COMMANDS, 'COMMAND'])})\b", README)

    assert sorted(said) == sorted(" ".join(line.split()[:2]) for line in lines_of(README))
    assert {"reconstruct", "train", "infer", "evaluate", "inspect"} <= {line.split()[1] for line in lines_of(README)}


def test_a_command_that_does_not_work_would_be_found() -> None:
    """Lines are read whole, with their continuations and without what is said about them."""
    text = "Do:\n\n    ptycho train --n-groups 258 \\\n        --seed 1  # once\n\nor `ptycho infer\n--quiet`."

    assert lines_of(text) == ["ptycho train --n-groups 258 --seed 1", "ptycho infer --quiet"]
    assert short(lines_of(text)[0]) == [
        *("train", "--n-groups", "8", "--seed", "1"),
        *("--max-time", "00:00:00:01", "--probe-rounds", "0"),
    ]


def test_the_commands_of_the_readme_work(capsys: pytest.CaptureFixture[str]) -> None:
    """They end well, one after the other: later ones use what earlier ones wrote."""
    for line in lines_of(README):
        for command in COMMANDS if "COMMAND" in line else ("",):
            code = main(short(line.replace("COMMAND", command)))
            assert code == 0, f"{line}: {capsys.readouterr().err}"


def test_the_python_of_the_readme_works(folder: Path) -> None:
    """The block runs as it stands, but for its numbers of groups and epochs, and gives what it promises."""
    (code,) = code_of(README)
    on_pages = README + (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    assert all(long in on_pages for long in SHORT_PYTHON)
    assert len([long for long in SHORT_PYTHON if README.count(long) == 1]) == 4
    names: dict[str, object] = {"ONE_PASS": ONE_PASS}

    exec(compile(code, "README.md", "exec"), names)

    assert {"payload", "model", "result", "first_look"} <= names.keys()
    assert (folder / "model" / "wts.h5.zip").is_file()
    assert read_product(folder / "object.h5").coverage is not None
