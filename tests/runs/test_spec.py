from __future__ import annotations

import pytest
from conftest import make_spec

from oodml.errors import DataError
from oodml.runs.spec import RunSpec

SPEC = make_spec(hyperparameters={"beta": 0.6})


def test_the_id_leaves_defaults_out_and_sees_everything_else() -> None:
    assert SPEC.id == SPEC.with_settings(seed=0, steps=300).id
    changed = [
        SPEC.with_settings(seed=1),
        SPEC.with_settings(hyperparameters={"beta": 0.7}),
        SPEC.with_settings(hyperparameters={}),
        SPEC.with_settings(split="t"),
        SPEC.with_settings(train="all"),
    ]
    assert len({spec.id for spec in [SPEC, *changed]}) == 6
    assert "training" not in SPEC.to_json() and len(SPEC.id) == 12


def test_a_spec_refuses_fields_it_does_not_know() -> None:
    assert RunSpec.from_json(SPEC.to_json()) == SPEC
    with pytest.raises(DataError, match="temperature"):
        RunSpec.from_json({**SPEC.to_json(), "temperature": 1})


def test_tricks_stand_in_the_label_and_in_the_id() -> None:
    plain = make_spec()
    tricked = plain.with_settings(flip=True, mix=0.25, rerank=True, hyperparameters={"beta": 0.6})
    assert tricked.label == "margin(beta=0.6) +flip +mix 0.25 +re-ranking"
    assert (
        len({plain.id, plain.with_settings(flip=True).id, plain.with_settings(ensemble=4).id}) == 3
    )
    assert plain.with_settings(folds=4).label == "margin +4 folds"
