"""Nulls of few images: dealt out at random, measured as the samples themselves are."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import make_features

from oodml.fid.frechet import frechet_distance
from oodml.fid.null import image_null
from oodml.fid.statistics import ClassMoments
from oodml.seeding import generator


@pytest.mark.parametrize("dimension", [4, 30], ids=["many images", "few images"])
def test_an_image_null_is_that_of_shuffled_images(dimension: int) -> None:
    features = make_features(classes=8, per_class=4, dimension=dimension)
    null = image_null(ClassMoments.from_features(features), range(3), range(3, 8), 4, seed=2)
    direct = []
    for draw in range(4):
        order = generator(2, "image null", draw).permutation(32)
        sides = features.values[np.sort(order[:12])], features.values[np.sort(order[12:])]
        direct.append(frechet_distance(*sides))
    assert null.draws == 4
    assert null.mean == pytest.approx(np.mean(direct), rel=1e-6)
    assert null.sd == pytest.approx(np.std(direct, ddof=1), rel=1e-6)
