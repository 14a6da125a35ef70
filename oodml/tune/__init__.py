"""Hyperparameter search on a rung's validation classes; test classes are never read."""

from oodml.tune.grid_table import grid_tables
from oodml.tune.search import Search, Trial, Tuned, tune
from oodml.tune.space import Choices, Range, default_space, parse_domain

__all__ = [
    "Choices",
    "Range",
    "Search",
    "Trial",
    "Tuned",
    "default_space",
    "grid_tables",
    "parse_domain",
    "tune",
]
