"""What the README says to type: every command and the block of Python are run as they stand there, made short.

The scans that the README names are simulated, 16 patterns of 64 px each. Whatever it says about numbers of groups,
epochs and time is replaced by less. Words in capitals and `...` in its prose stand for the files that are there.
"""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest

from ptycho_adapters import legacy, read_product, write_scan
from ptycho_adapters.cli import main
from ptycho_core.measurement.scan import ScanMetadata
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from collections.abc import Iterator

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
COMMANDS = ("simulate", "prepare", "reconstruct", "train", "infer", "evaluate", "convert", "inspect", "migrate")
SHORT = {"--n-groups": "8", "--max-time": "00:00:00:01"}
NEEDED = {"train": ("--max-time",)}
STANDS_FOR = {
    "SCAN": "scan.npz",
    "MODEL": "model",
    "D": "halves",
    "IN": "scan.npz",
    "OUT": "converted.cxi",
    "...": "--train-data-file scan.npz --output-dir model --n-groups 8",
}
LENGTHS = ScanMetadata(pixel_size_m=1e-8, wavelength_m=1.5e-10, distance_m=2.0)
SHORT_PYTHON = {
    '"n_groups": 258': '"n_groups": 8',
    '"nepochs": 4': '"nepochs": 1, "max_time": "00:00:00:01"',
}


def lines_of(text: str) -> list[str]:
    """The commands of a text: whole lines of indented blocks, their continuations joined, and spans in backticks."""
    joined = re.sub(r" *\\\n *", " ", text)
    blocks = re.findall(r"^ {4}(ptycho .*?)(?: +#.*)?$", joined, flags=re.MULTILINE)
    spans = [" ".join(span.split()) for span in re.findall(r"`(ptycho [^`]+)`", text)]
    return [*blocks, *spans]


def short(line: str) -> list[str]:
    """A command's arguments, with less to do and without words that stand for something."""
    words = shlex.split(" ".join(STANDS_FOR.get(word, word) for word in line.split()))[1:]
    for flag in NEEDED.get(words[0], ()):
        words += [] if flag in words else [flag, SHORT[flag]]
    for flag, value in SHORT.items():
        if flag in words:
            words[words.index(flag) + 1] = value
    return words


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scans that the README names; what is known of the other one is the object that made it."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "other_days").mkdir()
    for seed, name in enumerate(("scan.npz", "other_scan.npz", "monday.npz", "other_days/tuesday.npz")):
        scan = simulate(SimulationConfig(object_size_px=100, step_px=9, seed=seed, photons=1e5))
        write_scan(attrs.evolve(scan, metadata=LENGTHS), folder / name)
    shutil.copy(folder / "other_scan.npz", folder / "known.npz")
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
        *("--max-time", "00:00:00:01"),
    ]


@pytest.mark.parametrize("line", lines_of(README))
def test_a_command_of_the_readme_works(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It ends well, one after the other: later ones use what earlier ones wrote."""
    commands = COMMANDS if "COMMAND" in line else ("",)
    for command in commands:
        code = main(short(line.replace("COMMAND", command)))
        assert code == 0, capsys.readouterr().err


def test_the_python_of_the_readme_works(folder: Path) -> None:
    """The block runs as it stands, but for its numbers of groups and epochs, and gives what it promises."""
    (code,) = re.findall(r"^```python\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
    for long, less in SHORT_PYTHON.items():
        assert code.count(long) == 1
        code = code.replace(long, less)
    names: dict[str, object] = {}

    exec(compile(code, "README.md", "exec"), names)

    assert {"payload", "model", "result", "first_look"} <= names.keys()
    assert (folder / "model" / "wts.h5.zip").is_file()
    assert read_product(folder / "object.h5").coverage is not None
