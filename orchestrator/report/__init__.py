"""A run as a website in a folder: figures, every text, and what each of them came to."""

from orchestrator.report.written import Report, ReportOptions, write_report

__all__ = ["Report", "ReportOptions", "write_report"]
