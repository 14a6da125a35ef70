"""A distance carried by the points that move equals the one of the samples, step after step."""

from __future__ import annotations

import numpy as np
import pytest
from test_statistics import pool

from oodml.fid.carried import CarriedProduct, Move
from oodml.fid.statistics import ClassMoments
from oodml.fid.terms import split_terms
from oodml.seeding import generator


@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_exchanges_and_removals_keep_the_distance(offset):
    statistics = ClassMoments.from_features(pool(classes=60, d=40, offset=offset))
    random = generator(0, "moves")
    train, test = list(range(30)), list(range(30, 60))
    a, b = statistics.of(train), statistics.of(test)
    carried = CarriedProduct.of(a, b)
    for step in range(12):
        out, back = (train.pop(random.integers(len(train))), test.pop(random.integers(len(test))))
        points = np.concatenate([statistics.points([out]), statistics.points([back])])
        of_out = np.arange(len(points)) < statistics.size([out])
        if step % 3 == 2:
            move = Move(points, np.where(of_out, -1.0, 0.0), np.where(of_out, 0.0, -1.0))
        else:
            train.append(back)
            test.append(out)
            weights = np.where(of_out, -1.0, 1.0)
            move = Move(points, weights, -weights)
        carried = carried.after(move)
        terms, exact = carried.terms(1.0), split_terms(statistics, train, test)
        assert terms.mean == pytest.approx(exact.mean, rel=1e-12)
        assert terms.covariance == pytest.approx(exact.covariance, rel=1e-11)
        assert abs(terms.value - exact.value) <= terms.bound
    assert carried.terms(1e-16) is None


def test_a_product_that_cannot_be_carried_says_so():
    statistics = ClassMoments.from_features(pool(classes=8, d=40, per_class=12))
    a, b = statistics.of(range(4)), statistics.of(range(4, 8))
    start = CarriedProduct.of(a, b)
    points = statistics.points([0])
    without = a - statistics.of([0])
    # 36 points are left, in 40 dimensions: the covariance has no factor any more.
    assert start.after(Move(points, -np.ones(len(points)), np.zeros(len(points)))) is None
    assert CarriedProduct.of(without, b) is None
