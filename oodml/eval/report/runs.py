"""Every run of the report with its settings, so that each number leads back to a file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import MISSING
from typing import TYPE_CHECKING, Any

from oodml.runs.spec import SETTING_NAMES, default_of

if TYPE_CHECKING:
    from oodml.runs.record import RunRecord
    from oodml.splits.ladder import Ladder


def runs_content(
    records: Sequence[RunRecord], ladder: Ladder, methods: Sequence[str]
) -> dict[str, Any]:
    """`runs` in the records' order; what many of them share stands once, `settings` and so on.

    A run's `settings` and `environment` are numbers into those lists. Settings are the spec
    without split and seed, which each run has for itself; `defaults` those of a bare spec.
    """
    number = {method: index for index, method in enumerate(methods)}
    places = {split.id: rung for rung, split in enumerate(ladder.rungs)}
    settings: dict[str, int] = {}
    environments: dict[str, int] = {}
    runs = [
        {
            "id": record.id,
            "method": number[record.label],
            "rung": places[record.spec.data.split],
            "split": record.spec.data.split,
            "seed": record.spec.seed,
            "seconds": record.seconds,
            "metrics": plain(record.metrics),
            "training": plain(record.training),
            "geometry": plain(record.geometry),
            "settings": _shared(settings, _settings(record)),
            "environment": _shared(environments, record.environment),
        }
        for record in records
    ]
    return {
        "runs": runs,
        "defaults": _defaults(),
        "settings": [json.loads(text) for text in settings],
        "environments": [json.loads(text) for text in environments],
    }


def plain(value: Any) -> Any:
    """The value with None where a number is not finite, which JSON cannot say."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _settings(record: RunRecord) -> dict[str, Any]:
    values = record.spec.settings()
    return {key: plain(value) for key, value in values.items() if key not in ("split", "seed")}


def _defaults() -> dict[str, Any]:
    defaults = {name: default_of(name) for name in SETTING_NAMES if name != "seed"}
    return {name: value for name, value in defaults.items() if value is not MISSING}


def _shared(known: dict[str, int], value: Any) -> int:
    """The place of a value in a list where equal ones stand once."""
    return known.setdefault(json.dumps(value, default=str), len(known))
