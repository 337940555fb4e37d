"""What the gallery says to type, run on the measured data and made short: few patterns, nothing refined."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from ptycho_adapters import legacy, read_product
from ptycho_adapters.cli import main, parse

ROOT = Path(__file__).parents[1]
GALLERY = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
DATA = ROOT.parent / "shared" / "data" / "rotavirus_44x44.npz"
EVERY = re.findall(r"^ {4}(ptycho .*)$", re.sub(r" *\\\n *", " ", GALLERY), flags=re.MULTILINE)
COMMANDS = [line for line in EVERY if "virus" in line]
_SHORT = (
    *("--n-subsample", "16", "--probe-rounds", "0", "--no-probe-autofocus", "--no-beam-search", "--quiet"),
    *("--background-counts", "0", "--position-refinement", "none", "--orientation-search", "never"),
    *("--probe-search", "never"),
)
_LARGEST_PICTURE = 200_000


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "gallery.md"])
def test_pictures_are_there_and_small(page: Path) -> None:
    """Every picture of a page is a PNG below 200 kB."""
    named = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page.read_text(encoding="utf-8"))

    assert named
    for name in named:
        content = (page.parent / name).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) < _LARGEST_PICTURE


@pytest.mark.parametrize("line", [line for line in EVERY if line not in COMMANDS])
def test_the_other_commands_are_understood(line: str) -> None:
    """They take minutes, or a solver that is an extra."""
    words = shlex.split(line)[1:]

    assert parse(words)[0] == words[0]


@pytest.mark.skipif(not DATA.exists(), reason="the measured scan of the gallery is not on this machine")
def test_the_commands_of_the_gallery_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One after the other: later ones use what earlier ones wrote; of two like each other one is only planned."""
    shutil.copy(DATA, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert [line.split()[1] for line in COMMANDS] == ["convert", "inspect", "infer", "infer"]
    more: tuple[tuple[str, ...], ...] = ((), (), ("--print-config", "--json"), _SHORT)
    for line, short in zip(COMMANDS, more, strict=True):
        with legacy.legacy_scope():
            assert main([*shlex.split(line)[1:], *short]) == 0, capsys.readouterr().err
    told = capsys.readouterr().out
    for words in ("(9.3 Å)", "(1.969 pm)", "electrons_per_angstrom2", "the same, up to half a turn"):
        assert words in told
    assert read_product(tmp_path / "virus" / "object.h5").pixel_size_m == pytest.approx(9.3e-10)
