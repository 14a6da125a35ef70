from __future__ import annotations

import pytest
from conftest import make_spec

from oodml.errors import DataError
from oodml.runs.record import RunRecord


def test_geometry_and_episodes_may_be_missing_but_metrics_may_not() -> None:
    record = RunRecord(make_spec(), {}, {"recall_at_1": 0.5}, {}, {}, 1.0).to_json()
    assert RunRecord.from_json(record).metrics == {"recall_at_1": 0.5}
    del record["geometry"], record["few_shot"]
    assert RunRecord.from_json(record).geometry == {}
    del record["metrics"]
    with pytest.raises(DataError, match="metrics"):
        RunRecord.from_json(record)
