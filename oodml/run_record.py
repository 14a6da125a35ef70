"""RunRecord: what one finished run has measured, as `run.json` holds it."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from oodml.errors import DataError
from oodml.run_spec import RunSpec

SCHEMA = 1


@dataclass(frozen=True)
class RunRecord:
    """A finished run: its spec, the shift of its split, and what was measured."""

    spec: RunSpec
    shift: dict[str, Any]
    metrics: dict[str, float]
    training: dict[str, float]
    environment: dict[str, str]
    seconds: float
    geometry: dict[str, dict[str, float]] = field(default_factory=dict)
    few_shot: dict[str, dict[str, Any]] = field(default_factory=dict)
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
        if record.get("schema") != SCHEMA:
            raise DataError(f"run schema {record.get('schema')!r}; this oodml reads {SCHEMA}.")
        known = [f for f in fields(cls) if f.name != "spec"]
        values = {f.name: record[f.name] for f in known if f.name in record or _required(f)}
        run = cls(spec=RunSpec.from_json(record["spec"]), **values)
        if run.id != record["id"]:
            raise DataError(f"the spec hashes to {run.id}, the record says {record['id']!r}.")
        return run


def _required(f: Any) -> bool:
    return f.default is MISSING and f.default_factory is MISSING
