"""One page about a result: a single HTML file that needs no network."""

from ptycho_adapters.report.content import Report, SettingRow
from ptycho_adapters.report.page import render_report, write_report_file

__all__ = ["Report", "SettingRow", "render_report", "write_report_file"]
