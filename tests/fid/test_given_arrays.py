"""Arrays and tensors as they are given: what becomes of them, and how errors name them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from oodml.errors import DataError
from oodml.features.features import Features
from oodml.fid.arrays import covariance_array, real_array
from oodml.fid.frechet import frechet_distance, frechet_distance_from_moments


def test_errors_name_the_argument_at_fault() -> None:
    eye, mean, wrong = np.eye(3), np.zeros(3), np.zeros(2)
    for given, named in (
        ((wrong, eye, mean, eye), "^first mean: shape"),
        ((mean, eye, wrong, eye), "^second mean: shape"),
        ((mean, eye[:2], mean, eye), "^first covariance: shape"),
        ((mean, eye, mean, eye[:, :2]), "^second covariance: shape"),
        ((mean, eye > 0, mean, eye), "^first covariance: dtype"),
        ((mean, eye, mean, eye > 0), "^second covariance: dtype"),
        ((mean, eye * np.nan, mean, eye), "^first covariance: NaN"),
        ((mean, eye, mean, eye * np.nan), "^second covariance: NaN"),
    ):
        with pytest.raises(DataError, match=named):
            frechet_distance_from_moments(*given)
    assert covariance_array([[4.0]], "it").tolist() == [[4.0]]
    nearly = np.array([[1.0, 0.5], [0.5 + 3e-6, 1.0]])
    assert covariance_array(nearly.astype(np.float32), "it")[0, 1] == pytest.approx(0.5 + 1.5e-6)
    for wrong in (nearly, np.array([[1.0, 0.5], [0.5 + 1e-5, 1.0]], dtype=np.float32)):
        with pytest.raises(DataError, match=r"^it: not symmetric"):
            covariance_array(wrong, "it")
    for shape in ((2, 3), (0, 0), (3,), (2, 2, 2)):
        with pytest.raises(DataError, match=r"^it: shape .*square"):
            covariance_array(np.zeros(shape), "it")


@pytest.mark.parametrize(
    "value", [0.5, "text", np.zeros(5), np.zeros((5, 0)), np.zeros((1, 2)), np.zeros((2, 2, 2))]
)
def test_samples_at_fault_are_named_by_their_place(value: object) -> None:
    good = np.random.default_rng(6).standard_normal((5, 2))
    for place, named in enumerate(("first", "second")):
        given = [good, good]
        given[place] = value  # type: ignore[call-overload]
        with pytest.raises(DataError, match=f"^{named} sample: "):
            frechet_distance(*given)


@pytest.mark.parametrize("given", [torch.ones(3, dtype=torch.bool), torch.ones(3) * 1j])
def test_tensors_of_no_real_numbers_are_named(given: torch.Tensor) -> None:
    with pytest.raises(DataError, match=r"^features: dtype torch[.](bool|complex64);"):
        real_array(given, "features")


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [
        (torch.float32, np.float32), (torch.float64, np.float64), (torch.float16, np.float64),
        (torch.bfloat16, np.float64), (torch.int8, np.float64), (torch.uint8, np.float64),
    ],
)  # fmt: skip
def test_tensors_become_arrays_of_enough_digits(dtype: torch.dtype, kept: type) -> None:
    given = (
        torch.tensor([[1.0, 2.0], [3.0, 100.0]]).to(dtype).requires_grad_(dtype.is_floating_point)
    )
    array = real_array(given, "features")
    assert array.dtype == kept and array.tolist() == [[1.0, 2.0], [3.0, 100.0]]


def test_coordinates_that_vary_on_one_side_alone_leave_the_root() -> None:
    first, second = np.diag([1.0, 0.0, 2.0]), np.diag([4.0, 9.0, 0.0])
    for a, b in ((first, second), (second, first)):
        found = frechet_distance_from_moments(np.ones(3), a, np.zeros(3), b)
        assert found == pytest.approx(3 + 3 + 13 - 2 * 2, rel=1e-12)


def test_features_are_as_good_as_their_values() -> None:
    random = np.random.default_rng(0)
    first, second = (random.standard_normal((20, 4)) + shift for shift in (0, 1))
    a, b = (Features.from_arrays(values, [0] * 20) for values in (first, second))
    assert frechet_distance(a, b) == frechet_distance(a.values, b.values)
    assert frechet_distance(a, b.values) == frechet_distance(a, b)
    other = replace(b, source=replace(b.source, backbone="another"))
    with pytest.raises(DataError, match="another"):
        frechet_distance(a, other)
