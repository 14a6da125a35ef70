"""Hyperparameter search on a rung's validation classes; test classes are never read."""

from oodml.tune.grid_table import grid_tables
from oodml.tune.space import (
    Choices,
    Domain,
    Range,
    default_space,
    is_setting,
    parse_domain,
    searchable,
    settings_of,
    with_domains,
)
from oodml.tune.trials import Search, Trial, Tuned, check_ready, tune

__all__ = [
    "Choices",
    "Domain",
    "Range",
    "Search",
    "Trial",
    "Tuned",
    "check_ready",
    "default_space",
    "grid_tables",
    "is_setting",
    "parse_domain",
    "searchable",
    "settings_of",
    "tune",
    "with_domains",
]
