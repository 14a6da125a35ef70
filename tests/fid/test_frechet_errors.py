"""What a distance refuses: the errors name the argument and the rows at fault."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from oodml.errors import DataError
from oodml.features.features import Features
from oodml.fid.frechet import (
    ROWS_NAMED,
    covariance_array,
    frechet_distance,
    frechet_distance_from_moments,
    real_array,
    require_finite,
)

CASES = """
import json, sys, warnings
import numpy as np
from oodml.errors import DataError
from oodml.fid.frechet import frechet_distance, frechet_distance_from_moments
warnings.simplefilter("error")
rng = np.random.default_rng(0)

def spoiled(value, row=7, n=600):
    x = rng.standard_normal((n, 512)).astype(np.float32)
    x[row, 5] = value
    return x

good = rng.standard_normal((600, 512))
cov = np.cov(good.T)
mean = good.mean(0)
upper, lower, skewed = cov.copy(), cov.copy(), cov.copy()
upper[3, 400] = np.nan
lower[400, 3] = np.nan
skewed[3, 400] += 0.1
negative = cov.copy()
negative[2, 2] = -1.0
low_rank = np.diag(np.r_[np.ones(511), -1e-3])
many = good.copy()
many[10:30] = np.nan
cases = {
    "nan": lambda: frechet_distance(spoiled(np.nan), good),
    "nan in few samples": lambda: frechet_distance(spoiled(np.nan, n=20), good),
    "inf": lambda: frechet_distance(good, spoiled(np.inf)),
    "minus inf": lambda: frechet_distance(good, spoiled(-np.inf)),
    "many rows": lambda: frechet_distance(good, many),
    "no sample": lambda: frechet_distance(good[:0], good),
    "one sample": lambda: frechet_distance(good, good[:1]),
    "one dimension": lambda: frechet_distance(good[0], good[1]),
    "three dimensions": lambda: frechet_distance(good[None], good[None]),
    "no columns": lambda: frechet_distance(good[:, :0], good[:, :0]),
    "dimensions differ": lambda: frechet_distance(good[:, :100], good),
    "complex": lambda: frechet_distance(good + 1j, good),
    "bool": lambda: frechet_distance(good > 0, good),
    "text": lambda: frechet_distance([["a", "b"], ["c", "d"]], good),
    "ragged": lambda: frechet_distance([[1.0, 2.0], [3.0]], good),
    "overflow": lambda: frechet_distance(good * 1e200, good * -1e200),
    "nan above": lambda: frechet_distance_from_moments(mean, upper, mean, cov),
    "nan below": lambda: frechet_distance_from_moments(mean, cov, mean, lower),
    "not symmetric": lambda: frechet_distance_from_moments(mean, cov, mean, skewed),
    "negative variance": lambda: frechet_distance_from_moments(mean, negative, mean, cov),
    "indefinite": lambda: frechet_distance_from_moments(mean, low_rank, mean, cov),
    "not square": lambda: frechet_distance_from_moments(mean, cov[:, :9], mean, cov),
    "sizes differ": lambda: frechet_distance_from_moments(mean[:9], cov[:9, :9], mean, cov),
    "mean differs": lambda: frechet_distance_from_moments(mean[:9], cov, mean, cov),
    "nan mean": lambda: frechet_distance_from_moments(mean * np.nan, cov, mean, cov),
}
for name, case in cases.items():
    try:
        message = f"returned {case()}"
    except DataError as error:
        message = str(error)
    except Exception as error:
        message = f"raised {type(error).__name__}: {error}"
    print(json.dumps([name, message]), flush=True)
"""


EXPECTED = {
    "nan": "first sample: NaN or infinity in row(s) 7 ",
    "nan in few samples": "first sample: NaN or infinity in row(s) 7 ",
    "inf": "second sample: NaN or infinity in row(s) 7 ",
    "minus inf": "second sample: NaN or infinity in row(s) 7 ",
    "many rows": "row(s) 10, 11, 12, 13, 14 and 15 more",
    "no sample": "first sample: 0 sample(s)",
    "one sample": "second sample: 1 sample(s)",
    "one dimension": "first sample: shape (512,)",
    "three dimensions": "first sample: shape (1, 600, 512)",
    "no columns": "first sample: shape (600, 0)",
    "dimensions differ": "100 and 512 dimensions",
    "complex": "first sample: dtype complex128",
    "bool": "first sample: dtype bool",
    "text": "first sample: dtype <U1",
    "ragged": "first sample: not an array of numbers",
    "overflow": "too large",
    "nan above": "first covariance: NaN or infinity in row(s) 3 ",
    "nan below": "second covariance: NaN or infinity in row(s) 400 ",
    "not symmetric": "second covariance: not symmetric",
    "negative variance": "first covariance: not a covariance",
    "indefinite": "first covariance: not a covariance",
    "not square": "first covariance: shape (512, 9)",
    "sizes differ": "9 and 512 dimensions",
    "mean differs": "first mean: shape (9,)",
    "nan mean": "first mean: NaN or infinity",
}


@pytest.fixture(scope="module")
def outcomes():
    run = subprocess.run(
        [sys.executable, "-c", CASES], capture_output=True, text=True, timeout=600, check=False
    )
    assert run.returncode == 0, run.stderr[-500:]
    return dict(map(json.loads, run.stdout.splitlines()))


@pytest.mark.parametrize("name", EXPECTED)
def test_bad_input_gets_one_clear_line(outcomes, name):
    message = outcomes[name]
    assert EXPECTED[name] in message
    assert "\n" not in message


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


def test_features_are_as_good_as_their_values() -> None:
    random = np.random.default_rng(0)
    first, second = (random.standard_normal((20, 4)) + shift for shift in (0, 1))
    a, b = (Features.from_arrays(values, [0] * 20) for values in (first, second))
    assert frechet_distance(a, b) == frechet_distance(a.values, b.values)
    assert frechet_distance(a, b.values) == frechet_distance(a, b)
    other = replace(b, source=replace(b.source, backbone="another"))
    with pytest.raises(DataError, match="another"):
        frechet_distance(a, other)


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
