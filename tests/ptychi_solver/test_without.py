"""What can be told without pty-chi."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest

from ptycho_adapters.cli import main

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from pathlib import Path


def test_what_to_install_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where pty-chi is missing, the command says so with what to type, before it reads anything."""
    real = importlib.util.find_spec

    def find(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "ptychi" else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find)

    assert main(["refine", "--scan", str(tmp_path / "none.npz"), "--output-dir", str(tmp_path / "out")]) == 2

    said = capsys.readouterr().err
    assert "ptychi" in said
    assert "pip install" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--engine", "magic"], "--engine: expected one of lsqml, rpie, epie, dm, autodiff"),
        (["--epochs", "0"], "--epochs: expected a whole number >= 1"),
        (["--batch-size", "many"], "--batch-size: expected a whole number >= 1"),
        (["--probe-modes", "8"], "--probe-modes: expected a whole number >= 1 and <= 7"),
    ],
)
def test_wrong_values_are_refused(flags: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A flag that cannot be honoured is named, whether or not pty-chi is there."""
    assert main(["refine", "--scan", "scan.npz", "--output-dir", "out", *flags]) == 2

    assert words in capsys.readouterr().err
