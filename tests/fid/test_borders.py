"""Where distances begin to be allowed, and how small or large what they are made of may be."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import make_features

from oodml.errors import UsageError
from oodml.fid import kernel_distance
from oodml.fid.class_moments import ClassMoments
from oodml.fid.matrix_root import eigenvector_factor
from oodml.fid.sampling_bias import infinite_sample_distance


def test_two_samples_per_dimension_are_enough_to_extrapolate_from() -> None:
    train, test = np.array([0, 1]), np.array([2, 3])
    statistics = ClassMoments.from_features(make_features(classes=4, per_class=4, dimension=4))
    assert np.isfinite(infinite_sample_distance(statistics, train, test))
    statistics = ClassMoments.from_features(make_features(classes=4, per_class=4, dimension=5))
    with pytest.raises(UsageError, match="8 samples on one side"):
        infinite_sample_distance(statistics, train, test)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_a_factor_keeps_every_direction_at_any_scale(scale: float) -> None:
    covariance = scale * np.diag([1.0, 0.5, 0.25])
    factor = eigenvector_factor(covariance, 3)
    assert len(factor) == 3
    np.testing.assert_allclose(factor.T @ factor, covariance, rtol=1e-12, atol=1e-12 * scale)


def test_a_class_larger_than_a_block_is_a_block_of_its_own() -> None:
    starts = np.array([0, 3, kernel_distance.ROWS + 9, kernel_distance.ROWS + 12])
    spans = kernel_distance._spans(starts)
    assert [next(spans) for _ in range(3)] == [(0, 1), (1, 2), (2, 3)]
    assert next(spans, None) is None
