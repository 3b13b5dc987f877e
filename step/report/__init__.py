"""What people read: tables on the terminal, files for other programs, one HTML page."""

from step.report.data import ReportData, Trace
from step.report.page import build_page, write_page
from step.report.tables import export, print_table
from step.report.units import format_count, format_energy, format_ratio

__all__ = [
    "ReportData", "Trace", "build_page", "export", "format_count", "format_energy", "format_ratio", "print_table",
    "write_page",
]  # fmt: skip
