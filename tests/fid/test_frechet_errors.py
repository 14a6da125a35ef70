"""Bad input: one clear line within a second; in a subprocess, so that a crash or hang is seen."""

import json
import subprocess
import sys

import pytest

CASES = """
import json, sys, time, warnings
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
    begin = time.perf_counter()
    try:
        message = f"returned {case()}"
    except DataError as error:
        message = str(error)
    except Exception as error:
        message = f"raised {type(error).__name__}: {error}"
    print(json.dumps([name, message, time.perf_counter() - begin]), flush=True)
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
        [sys.executable, "-c", CASES], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr[-500:]
    return {
        name: (message, seconds)
        for name, message, seconds in map(json.loads, run.stdout.splitlines())
    }


@pytest.mark.parametrize("name", EXPECTED)
def test_bad_input_gets_one_clear_line_at_once(outcomes, name):
    message, seconds = outcomes[name]
    assert EXPECTED[name] in message
    assert "\n" not in message
    assert seconds < 1
