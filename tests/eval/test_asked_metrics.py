"""`evaluate` gives what was asked for and the counts that go with it, nothing else."""

from __future__ import annotations

import pytest
from conftest import make_features

from oodml.errors import DataError
from oodml.eval.retrieval.evaluate import evaluate

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


def test_queries_or_gallery_may_be_of_one_class() -> None:
    features = make_features(classes=3, per_class=4)
    one, two = (features.subset(features.class_names[:count]) for count in (1, 2))
    for query, gallery in ((one, two), (two, one)):
        assert evaluate(query, gallery, ("recall_at_1",))["queries"] == 4
    with pytest.raises(DataError, match="are of the class"):
        evaluate(one, one, ("recall_at_1",))
