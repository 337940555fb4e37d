"""The page: a report drawn into its template."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from ptycho_adapters.wording import printable

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_adapters.report.content import Report, SettingRow


def render_report(report: Report) -> str:
    """Return a report as one self-contained HTML page; equal reports give equal pages.

    Pictures are SVG elements within the page, in its light or dark colours; nothing is loaded, nothing runs.

    Args:
        report: what is reported.
    """
    import jinja2  # noqa: PLC0415 - only who writes a report needs it

    from ptycho_adapters.report.sections import sections  # noqa: PLC0415 - matplotlib takes half a second

    drawn = sections(report)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ptycho_adapters.report", package_path=""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    page = environment.get_template("template.html.j2").render(
        report=report,
        sections=drawn,
        omissions=[omission for section in drawn for omission in section.omissions],
        groups=_grouped(report),
    )
    return printable(page)


def write_report_file(report: Report, path: Path) -> None:
    """Write a report straight to a path, for callers that commit several files together."""
    path.write_text(render_report(report), encoding="utf-8")


def _breakable(name: str) -> Markup:
    """Let a long name go on in a new line behind its underscores."""
    return escape(name).replace("_", Markup("_<wbr>"))


def _grouped(report: Report) -> dict[str, list[SettingRow]]:
    """Group the settings by section, chosen ones first."""
    groups: dict[str, list[SettingRow]] = {}
    for row in sorted(report.settings, key=lambda row: not row.chosen):
        groups.setdefault(row.section, []).append(row)
    return groups
