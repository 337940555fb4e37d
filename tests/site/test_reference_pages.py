"""The reference of the documentation site: all that the program has is on it, and links of pages lead somewhere."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

import pytest

import outside
import reference_api
import reference_commands
import reference_settings
from finding_causes import CAUSES
from markdown_pieces import plain
from ptycho_adapters import cli
from ptycho_core.config.table import fields
from ptycho_core.measurement.findings import Suspicion
from ptycho_core.version import VERSION

ROOT = Path(__file__).parents[2]
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if "reference" not in path.parts)
LINK = re.compile(r"\]\((?!https?:)(?P<target>[^)#\s\\]*)(?:#(?P<anchor>[^)\s]+))?\)")


def anchors_of(text: str) -> set[str]:
    """Anchors of a page's headings, as those who show it make them."""
    headings = re.findall(r"^#{1,4} +(.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_command_has_a_page_with_all_its_flags(capsys: pytest.CaptureFixture[str]) -> None:
    """The commands are those of the command line, and each flag that its help shows is on its page."""
    with pytest.raises(SystemExit):
        cli.parse(["--help"])
    listed = capsys.readouterr().out
    pages = reference_commands.pages()

    assert set(re.findall(r"^    (\w+)\s", listed, re.MULTILINE)) == set(reference_commands.names())
    for name in reference_commands.names():
        with pytest.raises(SystemExit):
            cli.parse([name, "--help"])
        shown = set(re.findall(r"^  (--[\w-]+)", capsys.readouterr().out, re.MULTILINE)) - {"--traceback"}
        page = pages[f"commands/{name}.md"]
        assert {flag for flag in shown if f"`{flag}" not in page} == set(), name


def test_every_setting_is_on_one_page() -> None:
    """Each has one heading, with its default and its reader."""
    text = "\n".join(reference_settings.pages().values())

    headings = re.findall(r"^## (\w+)$", text, re.MULTILINE)

    assert sorted(headings) == sorted(info.key for info in fields())
    assert text.count("- *Default:*") == text.count("- *Read by:*") == len(headings)


def test_every_finding_has_a_cause() -> None:
    """What may be behind it and what to do about it stand in the table, for each kind."""
    assert set(CAUSES) == set(Suspicion)
    assert all(cause.endswith(".") and cure.endswith(".") for cause, cure in CAUSES.values())


def test_every_public_name_is_in_the_reference() -> None:
    """Those of the packages, and of single modules."""
    pages = reference_api.pages()

    for module, names in reference_api.public_names().items():
        for name in names:
            page = pages[f"api/{module.partition('.')[0]}.md"]
            assert re.search(rf"auto\w+:: {module}\.{name}\b", page), f"{module}.{name}"
    assert "autoclass:: ptycho_core.Scan\n" in pages["api/ptycho_core.md"]
    assert "autoclass:: ptycho_core.TrainingConfig(**settings)" in pages["api/ptycho_core.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    """The files are there, and so are the headings; pages of the reference are made when the site is built."""
    text = page.read_text(encoding="utf-8")
    for target, anchor in LINK.findall(text):
        place = page if not target else page.parent / target
        if (ROOT / "docs" / "reference").resolve() in place.resolve().parents:
            continue
        assert place.is_file(), target
        assert not anchor or anchor in anchors_of(place.read_text(encoding="utf-8")), f"{target}#{anchor}"


def test_links_out_of_the_pages_lead_to_what_the_site_shows_there() -> None:
    """A file of the repository that a page includes is that page in the site, from any folder; others stay."""
    text = "[a](../CHANGELOG.md#x) [b](../../CONTRIBUTING.md) [c](formats.md)"

    assert outside.led(text, "") == "[a](project/changelog.md#x) [b](../../CONTRIBUTING.md) [c](formats.md)"
    assert "[b](../project/contributing.md)" in outside.led(text, "decisions")
    for source, shown in outside.SHOWN.items():
        page = ROOT / "docs" / shown
        assert posixpath.relpath(source, posixpath.dirname(f"docs/{shown}")) in page.read_text(encoding="utf-8")


def test_a_page_that_may_not_be_there_counts_where_it_is() -> None:
    """A line with a question mark in a table of contents."""
    assert outside.there("gallery\nlive?\nrefine?\n", {"gallery", "refine"}) == "gallery\nrefine\n"


def test_signs_of_markdown_mean_themselves_in_what_the_program_says() -> None:
    """But for spans of code, which stay."""
    assert plain("a * b_c | <d>  `e_f`") == "a \\* b\\_c \\| \\<d\\> `e_f`"


def test_every_place_says_the_same_version() -> None:
    """The package, its metadata and how to cite it; it is the newest in the changelog, under what comes after it."""
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    built = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)

    assert cited is not None
    assert built is not None
    assert cited[1] == built[1] == VERSION
    told = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert told[:2] == ["Unreleased", VERSION]
