"""RunRecord: what one finished run has measured, as `run.json` holds it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from oodml.errors import DataError
from oodml.records import checked_fields, checked_value
from oodml.runs.spec import RunSpec

SCHEMA = 2


@dataclass(frozen=True)
class RunRecord:
    """A finished run: its spec, the shift of its split, and what was measured.

    `ruler` is the network that measured the shift, as `FeatureSource.network` writes it.
    """

    spec: RunSpec
    shift: dict[str, Any]
    metrics: dict[str, float]
    training: dict[str, float]
    environment: dict[str, str]
    seconds: float
    geometry: dict[str, dict[str, float]] = field(default_factory=dict)
    few_shot: dict[str, dict[str, Any]] = field(default_factory=dict)
    ruler: str = ""
    status: str = "done"

    @property
    def id(self) -> str:
        return self.spec.id

    @property
    def label(self) -> str:
        return self.spec.label

    def to_json(self) -> dict[str, Any]:
        record = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "spec"}
        return {**record, "schema": SCHEMA, "id": self.id, "spec": self.spec.to_json()}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> RunRecord:
        """The record that `to_json` gave; `DataError` for another schema, id or type of value."""
        schema = record.get("schema")
        if type(schema) is not int or schema != SCHEMA:
            raise DataError(f"run schema {schema!r}; this oodml reads {SCHEMA}.")
        given = {key: value for key, value in record.items() if key not in ("schema", "id")}
        values = checked_fields(cls, given, "a run record", ("spec", "few_shot"))
        values["few_shot"] = _few_shot(values.get("few_shot", {}))
        run = cls(**{**values, "spec": RunSpec.from_json(values["spec"])})
        if run.id != record.get("id"):
            raise DataError(
                f"the spec hashes to {run.id}, the record says {str(record.get('id'))[:20]!r}."
            )
        return run


def _few_shot(value: Any) -> dict[str, dict[str, Any]]:
    """What adaptation gave, by shots, if its shots are numbers and its episodes pairs of scores."""
    found: dict[str, dict[str, Any]] = checked_value(
        dict[str, dict[str, Any]], value, "few_shot", "a run record"
    )
    for shots, each in found.items():
        if not (shots.isascii() and shots.isdecimal() and len(shots) < 10):
            raise DataError(f"{shots[:20]!r} is no number of shots in a run record.")
        episodes = each.get("episodes")
        if not isinstance(episodes, list):
            raise DataError(f"the {shots} shots of a run record have no list of episodes.")
        for episode in episodes:
            checked_value(dict[str, dict[str, float]], episode, "an episode", "a run record")
    return found
