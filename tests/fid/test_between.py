"""Two collections as one pool: which rows and classes are whose, and which pairs are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import make_features

from oodml.errors import DataError
from oodml.features.features import Features
from oodml.fid.frechet import frechet_distance
from oodml.fid.shift import concatenated, joined, measure_shift


def collection(classes: int, seed: int, fingerprint: str, **changes: object) -> Features:
    made = make_features(classes=classes, per_class=6, dimension=4, seed=seed)
    source = replace(made.source, dataset=f"photos {seed}", fingerprint=fingerprint * 16)
    return replace(made, source=source, **changes)  # type: ignore[arg-type]


def test_equal_names_stay_apart_and_every_row_keeps_its_class() -> None:
    a, b = collection(3, 1, "a"), collection(2, 2, "b")
    pool, sides = joined(a, b)
    assert sides.train_classes == ("A/class 000", "A/class 001", "A/class 002")
    assert sides.test_classes == ("B/class 000", "B/class 001")
    assert pool.class_names == sides.train_classes + sides.test_classes
    assert (pool.values == np.concatenate([a.values, b.values])).all()
    assert pool.labels.tolist() == [*a.labels, *(b.labels + 3)]
    assert pool.source.dataset == "photos 1 and photos 2"
    shift = measure_shift(pool, sides, null=0)
    assert shift.fid == pytest.approx(frechet_distance(a.values, b.values), rel=1e-9)
    assert (shift.n_train, shift.n_test) == (18, 12)


def test_the_fingerprint_tells_collections_and_their_order_apart() -> None:
    a, b, other = collection(3, 1, "a"), collection(2, 2, "b"), collection(2, 2, "c")
    pairs = ((a, b), (b, a), (a, other), (other, b))
    made = [joined(*pair)[0].source.fingerprint for pair in pairs]
    assert len(set(made)) == 4 and {len(each) for each in made} == {16}
    assert joined(a, b)[0].source.fingerprint == made[0]


def test_groups_are_kept_where_both_collections_have_them() -> None:
    a, b = collection(3, 1, "a", groups=("x", "x", "y")), collection(2, 2, "b", groups=("z", "z"))
    b = replace(b, class_names=("p", "q"))
    assert concatenated(a, b, a.source).groups == ("x", "x", "y", "z", "z")
    assert concatenated(replace(a, groups=None), b, a.source).groups is None
    assert concatenated(a, replace(b, groups=None), a.source).groups is None


def test_collections_seen_differently_do_not_compare() -> None:
    a, b = collection(3, 1, "a"), collection(2, 2, "b")
    strange = replace(b, source=replace(b.source, weights="2" * 64))
    with pytest.raises(DataError, match=r"A was made by .*, B by"):
        joined(a, strange)
    with pytest.raises(DataError, match="A has 4 dimensions, B has 3"):
        joined(a, replace(b, values=b.values[:, :3]))
