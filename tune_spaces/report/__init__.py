"""A search as a website in a folder: whether anything beat the base, every trial, what each text cost."""

from tune_spaces.report.written import write_search_report

__all__ = ["write_search_report"]
