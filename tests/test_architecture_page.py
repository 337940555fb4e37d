"""The page about the architecture: what it names is there, and every room is on it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
STEP = re.compile(r"^\d+\. `(?P<file>[\w/]+\.py)`: (?P<words>.*)$", re.MULTILINE)
WALKS = re.findall(r"## The walk of `(\S+)`\n(.*?)(?=\n## )", PAGE, re.DOTALL)


def defined(file: Path) -> set[str]:
    """Names of everything that a file defines, at any depth."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    named = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return named | {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def test_the_page_has_both_walks() -> None:
    """A path and a number are followed."""
    assert [flag for flag, _ in WALKS] == ["--train-data-file", "--batch-size"]


@pytest.mark.parametrize(("flag", "text"), WALKS)
def test_every_stop_of_a_walk_is_there_and_entered_once(flag: str, text: str) -> None:
    """The files exist and define the functions that the page names."""
    steps = [(match["file"], re.findall(r"`(\w+)`", match["words"])) for match in STEP.finditer(text)]

    assert len(steps) > 5, flag
    assert len({file for file, _ in steps}) == len(steps)
    for file, names in steps:
        assert names, file
        assert set(names) <= defined(ROOT / "src" / file), file


def test_every_room_is_on_the_page() -> None:
    """Packages and modules of both wings, and the floors of files and backend, stand in the picture."""
    rooms, _, _ = PAGE.partition("## The road")
    words = set(re.findall(r"\w+", rooms))
    for place in ("ptycho_core", "ptycho_adapters", "ptycho_adapters/files", "ptycho_adapters/torch_backend"):
        found = {path.stem for path in (ROOT / "src" / place).iterdir() if path.suffix in {"", ".py"}}
        assert {name for name in found if not name.startswith("__")} <= words, place


@pytest.mark.parametrize("name", ["ScanFormat", "READERS", "WRITERS", "register_generator", "Architecture"])
def test_the_names_of_where_to_put_are_there(name: str) -> None:
    """What somebody is sent to can be found."""
    assert name in PAGE
    assert any(name in defined(file) for file in (ROOT / "src").rglob("*.py"))
