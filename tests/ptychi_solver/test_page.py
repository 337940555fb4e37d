"""What the page on refinement says to type."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from page_commands import lay_out, short, steps_of
from ptycho_adapters.cli import main

if TYPE_CHECKING:
    import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "refine.md").read_text(encoding="utf-8")


def test_its_commands_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One after the other, with fewer epochs, and both refinements leave a result."""
    lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    for line in steps_of(PAGE):
        assert main(short(line)) == 0, f"{line}: {capsys.readouterr().err}"
    assert all(Path(folder, "object.h5").is_file() for folder in ("refined", "cold"))
