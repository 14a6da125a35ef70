"""Samples that are read in several blocks give what NumPy gives on all of them at once."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from conftest import make_features

from oodml.errors import DataError
from oodml.fid import class_moments
from oodml.fid.arrays import ROWS_NAMED, require_finite
from oodml.fid.class_moments import ClassMoments


@pytest.mark.parametrize("rows_a_block", [1, 7, 24, 25, 1000])
def test_moments_of_many_blocks_equal_numpy(
    rows_a_block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_moments, "BLOCK_ROWS", rows_a_block)
    features = make_features(classes=6, per_class=8, dimension=5)
    classes = [0, 2, 5]
    values = features.values[np.isin(features.labels, classes)].astype(np.float64)
    moments = ClassMoments.from_features(features).of(classes)
    centre = features.values.mean(axis=0, dtype=np.float64)
    assert moments.count == 24
    np.testing.assert_allclose(moments.mean, values.mean(axis=0) - centre, atol=1e-6)
    np.testing.assert_allclose(moments.covariance, np.cov(values.T), atol=1e-6)


def test_all_rows_that_are_no_numbers_are_counted_and_the_first_named() -> None:
    values = np.ones((40, 3))
    require_finite(values, "features")
    values[5, 1] = np.nan
    with pytest.raises(DataError, match=r"row.* 5\b(?!.*more)"):
        require_finite(values, "features")
    values[20 : 20 + ROWS_NAMED - 1] = np.nan
    with pytest.raises(DataError, match=r"^(?!.*more)"):
        require_finite(values, "features")
    values[20:] = 1.0
    values[10:30, 0] = np.inf
    with pytest.raises(DataError, match=rf"\b5, 10\b.* and {21 - ROWS_NAMED} more"):
        require_finite(values, "features")


def test_a_sum_beyond_the_largest_number_accuses_no_row_and_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        require_finite(np.full((3, 1), 1e308), "features")
        with pytest.raises(DataError, match="2, 3"):
            require_finite(np.array([[1.0], [1.0], [np.inf], [-np.inf]]), "features")
