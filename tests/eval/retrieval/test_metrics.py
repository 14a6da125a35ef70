"""How metrics are registered, and found by their names again."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from oodml.errors import UsageError
from oodml.eval.retrieval import metrics
from oodml.eval.retrieval.metrics import Ranking, descriptions, find_metric, metric


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_REGISTRY", dict(metrics._REGISTRY))


def hits(ranking: Ranking) -> Tensor:
    """How many.

    Of all.
    """
    return ranking.positives


def test_a_metric_is_found_with_its_depth() -> None:
    found = torch.tensor([5, 2])
    assert metric("shallow", depth=3, first_only=True)(hits) is hits
    shallow = find_metric("shallow")
    assert shallow is not None and shallow.score is hits and shallow.first_only
    assert shallow.depth(found).tolist() == [3, 3]
    metric("whole")(hits)
    whole = find_metric("whole")
    assert whole is not None and not whole.first_only
    assert whole.depth(found).tolist() == [metrics.EVERYTHING] * 2
    metric("own", depth=lambda positives: positives + 1)(hits)
    own = find_metric("own")
    assert own is not None and own.depth(found).tolist() == [6, 3]


def test_a_name_may_be_registered_again_by_the_same_function_alone() -> None:
    metric("hits")(hits)
    metric("hits", depth=2)(hits)
    found = find_metric("hits")
    assert found is not None and found.depth(torch.tensor([5])).tolist() == [2]
    with pytest.raises(UsageError, match="'hits'"):
        metric("hits")(lambda ranking: ranking.positives)
    assert find_metric("hits") is found


def test_a_family_is_found_by_any_number_and_by_no_other_word() -> None:
    recall = find_metric("recall_at_37")
    assert recall is not None and recall.first_only
    assert recall.depth(torch.tensor([5, 99])).tolist() == [37, 37]
    precision = find_metric("mean_average_precision_at_999999999")
    assert precision is not None and not precision.first_only
    for name in (
        "recall_at_K", "recall_at_0", "recall_at_01", "recall_at_", "recall_at_1234567890",
        "r_precision_1", "recall_at_-1", "recall_at_1 ", "K", "_1", "",
    ):  # fmt: skip
        assert find_metric(name) is None, name


def test_descriptions_are_first_lines_by_name() -> None:
    metric("hits")(hits)
    metric("a_bare_one")(lambda ranking: ranking.positives)
    found = descriptions()
    assert found == sorted(found) and ("hits", "How many.") in found
    assert ("a_bare_one", "") in found
