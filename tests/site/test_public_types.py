"""What public names take, give and hold is public too, and so is what the pages import."""

from __future__ import annotations

import ast
import inspect
import re
from functools import cache
from importlib import import_module, util
from pathlib import Path
from typing import TYPE_CHECKING, get_type_hints

import pytest

import reference_api

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
OF_DEVELOPERS = {"developers", "mutation"}
"""Pages about the inside."""

PAGES = [ROOT / "README.md", *sorted(each for each in (ROOT / "docs").glob("*.md") if each.stem not in OF_DEVELOPERS)]
LAZY = {"to_xarray", "reconstruct_stream"}
"""Public functions with types of an optional package, or of a framework that their module does not load."""

PUBLIC = reference_api.public_names()
NAMES = [(module, name) for module, names in PUBLIC.items() for name in names]


@cache
def defined_in(module: str) -> dict[str, ast.stmt]:
    """Where each name of a module of ours comes from; what only a type checker imports counts too."""
    spec = util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    found: dict[str, ast.stmt] = {}
    for node in ast.walk(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.setdefault(node.name, node)
        elif isinstance(node, ast.ImportFrom):
            found.update({alias.asname or alias.name: node for alias in node.names})
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, node)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            found.setdefault(node.target.id, node)
    return found


def classes(module: str, name: str) -> Iterator[tuple[str, str]]:
    """The classes of ours that a name stands for, each by its home: itself, or those that an alias is made of."""
    node = defined_in(module).get(name)
    if isinstance(node, ast.ClassDef):
        yield module, name
    elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("ptycho_"):
        (first,) = (alias.name for alias in node.names if name in (alias.asname, alias.name))
        yield from classes(str(node.module), first)
    elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        yield from named_by(module, node.value)


def named_by(module: str, annotation: ast.expr) -> Iterator[tuple[str, str]]:
    for each in ast.walk(annotation):
        if isinstance(each, ast.Name):
            yield from classes(module, each.id)


def annotated(value: object) -> Iterator[tuple[str, str, str]]:
    """Module, place and text of every annotation that a reader of the reference meets under a name."""
    if inspect.isfunction(value):
        yield from ((value.__module__, place, _text(kind)) for place, kind in value.__annotations__.items())
    if not inspect.isclass(value):
        return
    for place, kind in inspect.get_annotations(value).items():
        if not place.startswith("_"):
            yield value.__module__, place, _text(kind)
    for name, member in vars(value).items():
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if inspect.isfunction(function) and not name.startswith("_"):
            yield from ((module, f"{name}.{place}", text) for module, place, text in annotated(function))


def _text(annotation: object) -> str:
    """An annotation as it is written, without the modules that its names come from."""
    return annotation if isinstance(annotation, str) else re.sub(r"[\w.]+\.", "", inspect.formatannotation(annotation))


@pytest.fixture(scope="module")
def public() -> set[tuple[str, str]]:
    """The homes of public classes."""
    return {home for module, name in NAMES for home in classes(module, name)}


@pytest.mark.parametrize(("module", "name"), NAMES, ids=".".join)
def test_the_types_of_a_public_name_are_public(module: str, name: str, public: set[tuple[str, str]]) -> None:
    """Each class of ours in a signature, a field or a property is in the reference."""
    hidden = {
        f"{place}: {home}.{found}"
        for where, place, text in annotated(getattr(import_module(module), name))
        for home, found in named_by(where, ast.parse(text, mode="eval").body)
        if where.startswith("ptycho_") and (home, found) not in public
    }

    assert hidden == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_what_a_page_imports_is_public(page: Path) -> None:
    """Whoever copies a block relies on names that stay."""
    text = page.read_text(encoding="utf-8")
    imported = re.findall(r"^ *from (ptycho_[\w.]+) import (?:\(\s*([^)]*)\)|(.+))$", text, re.MULTILINE)

    for module, several, one in imported:
        for name in re.findall(r"\w+", several or one):
            assert name in PUBLIC.get(module, ()), f"{module}.{name}"


@pytest.mark.parametrize(("module", "name"), [each for each in NAMES if each[1] not in LAZY])
def test_signatures_are_read_at_run_time(module: str, name: str) -> None:
    """What makes a form, a command or a check of a signature gets its types from `typing.get_type_hints`."""
    found = getattr(import_module(module), name)
    if inspect.isroutine(found):
        hints = get_type_hints(found)

        assert set(hints) >= {"return", *inspect.signature(found).parameters}
