"""Checks of a pool of images before anything is trained on it."""

from __future__ import annotations

from oodml.data.check.duplicates import Leak, leaks
from oodml.data.check.report import PoolCheck, PoolReport, check_dataset, report_lines

__all__ = ["Leak", "PoolCheck", "PoolReport", "check_dataset", "leaks", "report_lines"]
