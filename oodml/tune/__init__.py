"""Hyperparameter search on a rung's validation classes; test classes are never read."""

from oodml.tune.search import Search, Trial, Tuned, check_ready, tune
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

__all__ = [
    "Choices",
    "Domain",
    "Range",
    "Search",
    "Trial",
    "Tuned",
    "check_ready",
    "default_space",
    "is_setting",
    "parse_domain",
    "searchable",
    "settings_of",
    "tune",
    "with_domains",
]
