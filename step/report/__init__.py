"""What people read: tables on the terminal, files for other programs, one HTML page."""

from step.report.data import Judged, ReportData, Trace
from step.report.page import build_page, build_verdict_page, write_page, write_verdict_page
from step.report.tables import export, print_table
from step.report.units import format_count, format_energy, format_ratio

__all__ = [
    "Judged", "ReportData", "Trace", "build_page", "build_verdict_page", "export", "format_count", "format_energy",
    "format_ratio", "print_table", "write_page", "write_verdict_page",
]  # fmt: skip
