"""Ensembles of independent models: what they rank, and how large they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from oodml.errors import UsageError
from oodml.eval.retrieval.nearest import nearest_neighbors
from oodml.features.features import Features
from oodml.runs.record import RunRecord
from oodml.splits.ladder import Ladder
from oodml.train.build import Resources, concatenated
from oodml.train.plan import plan
from oodml.train.run import members_of, train_run


def ranking(pool: Features) -> npt.NDArray[np.int64]:
    found = nearest_neighbors(torch.from_numpy(pool.values), k=20)
    return torch.cat([block.index for block in found]).numpy()


@pytest.mark.parametrize("copies", [2, 4])
def test_copies_of_one_model_rank_exactly_as_it_does(features: Features, copies: int) -> None:
    whole = concatenated([features] * copies)
    assert whole.values.shape[1] == copies * features.values.shape[1]
    assert np.array_equal(ranking(whole), ranking(features))


def test_the_order_of_the_models_changes_no_ranking(features: Features) -> None:
    random = np.random.default_rng(0)
    others = [
        replace(features, values=random.normal(size=features.values.shape).astype(np.float32))
        for _ in range(2)
    ]
    one, two = concatenated([features, *others]), concatenated([*others, features])
    assert np.array_equal(ranking(one), ranking(two))
    assert not np.array_equal(ranking(one), ranking(features))


def trained(features: Features, ladder: Ladder, directory: Path, **settings: int) -> RunRecord:
    (spec,) = plan(ladder, ["margin"], [3], rungs=[0], batch_size=24, steps=4, **settings)  # type: ignore[arg-type]
    return train_run(spec, ladder.rungs[0], Resources(features), directory / spec.id)


def test_the_total_dimension_is_reported_and_can_be_that_of_a_single_model(
    features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    large = trained(features, ladder, tmp_path, ensemble=3, embedding_dim=12)
    equal = trained(features, ladder, tmp_path, ensemble=3, embedding_dim=4)
    single = trained(features, ladder, tmp_path, embedding_dim=12)
    assert large.training["dimensions"] == 36
    assert equal.training["dimensions"] == 12 == single.spec.model.embedding_dim
    assert "dimensions" not in single.training
    assert len({record.spec.id for record in (large, equal, single)}) == 3


def test_members_are_independent_and_the_first_is_the_plain_run(ladder: Ladder) -> None:
    (spec,) = plan(ladder, ["margin"], [3], rungs=[0], ensemble=3)
    members = members_of(spec, ladder.rungs[0])
    assert [member.name for member in members] == ["member0", "member1", "member2"]
    assert members[0].seed == 3 and len({member.seed for member in members}) == 3
    assert {member.fit_classes for member in members} == {ladder.rungs[0].train_classes}
    with pytest.raises(UsageError, match="one or the other"):
        members_of(spec.with_settings(folds=2), ladder.rungs[0])
