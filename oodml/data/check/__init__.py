"""What is wrong with a pool of images before anything is trained on it."""

from __future__ import annotations

from oodml.data.check.leakage import Leak, leaks
from oodml.data.check.pool import PoolCheck, check_dataset
from oodml.data.check.report import PoolReport
from oodml.data.check.text import report_lines

__all__ = ["Leak", "PoolCheck", "PoolReport", "check_dataset", "leaks", "report_lines"]
