"""`evaluate` gives what was asked for and the counts that go with it, nothing else."""

from __future__ import annotations

import pytest
from conftest import make_features

from oodml.eval.retrieval import evaluate

COUNTS = {"queries", "queries_left_out", "queries_tied"}


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (("f1",), {"f1"}),
        (("nmi",), {"nmi"}),
        (("nmi", "recall_at_2"), {"nmi", "recall_at_2"} | COUNTS),
        (("r_precision",), {"r_precision"} | COUNTS),
    ],
)
def test_only_what_was_asked_for_is_measured(asked: tuple[str, ...], given: set[str]) -> None:
    features = make_features(classes=5, per_class=4)
    scores = evaluate(features, metrics=asked)
    assert set(scores) == given and tuple(scores)[: len(asked)] == asked
    assert evaluate(features, features.subset(features.class_names), asked).keys() == scores.keys()
