"""The distance between given means and covariances: closed forms, spectra, peers, threads."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from fid.conftest import D, mapped_reference, sample, traces, transport

from oodml.errors import DataError
from oodml.fid.frechet import (
    frechet_distance,
    frechet_distance_from_moments,
    frechet_terms,
    frechet_terms_from_moments,
)
from oodml.seeding import generator


def rotated(*spectra):
    d = len(spectra[0])
    basis, _ = np.linalg.qr(generator(0, "rotated", d).standard_normal((d, d)))
    products = ((basis * spectrum) @ basis.T for spectrum in spectra)
    return [(p + p.T) / 2 for p in products]


@pytest.mark.parametrize("smallest", [1e-3, 1e-8, 1e-14])
@pytest.mark.parametrize("d", [64, 256])
def test_commuting_covariances(d, smallest):
    a = np.geomspace(1, smallest, d)
    b = generator(1, "spectrum").permutation(a)
    zero = np.zeros(d)
    terms = frechet_terms_from_moments(zero, rotated(a, b)[0], zero, rotated(a, b)[1])
    error = abs(terms.covariance - np.sum((np.sqrt(a) - np.sqrt(b)) ** 2))
    assert error < 1e-9 * (a.sum() + b.sum())
    if smallest > 1e-14:
        assert error <= terms.bound


def test_commuting_covariances_with_a_shared_null_space():
    a = np.where(np.arange(128) < 50, 1.0, 0.0)
    b = np.where(np.arange(128) < 50, np.linspace(0.1, 2, 128), 0.0)
    zero = np.zeros(128)
    terms = frechet_terms_from_moments(zero, rotated(a, b)[0], zero, rotated(a, b)[1])
    expected = np.sum((np.sqrt(a) - np.sqrt(b)) ** 2)
    assert abs(terms.covariance - expected) < 1e-9 * (a.sum() + b.sum())


def test_isotropic_covariances():
    d, mean = 40, np.full(40, 0.5)
    value = frechet_distance_from_moments(np.zeros(d), 4 * np.eye(d), mean, 9 * np.eye(d))
    assert value == pytest.approx(mean @ mean + d, rel=1e-13)


@pytest.mark.parametrize("sizes", [(20, 30), (50, 3 * D), (3 * D, 4 * D)])
def test_moments_equal_samples(sizes):
    a, b = sample(sizes[0]), sample(sizes[1], seed=1)
    expected = frechet_terms(a, b)
    arguments = (a.mean(0), np.cov(a.T), b.mean(0), np.cov(b.T))
    known = frechet_terms_from_moments(*arguments, n_a=len(a), n_b=len(b))
    unknown = frechet_terms_from_moments(*arguments)
    for terms in (known, unknown):
        assert terms.mean == pytest.approx(expected.mean, rel=1e-10)
        assert abs(terms.covariance - expected.covariance) < 1e-9 * traces(a, b)
    swapped = frechet_terms_from_moments(*arguments[2:], *arguments[:2], n_a=len(b), n_b=len(a))
    assert swapped == known


@pytest.mark.parametrize("tolerance", [0.0, 1e-9, 1.0])
@pytest.mark.parametrize(("n", "d"), [(D + 1, D), (3 * D, D), (1200, 520)])
def test_every_tolerance_is_exact_on_a_mapped_sample(n, d, tolerance):
    x, t = sample(n, d), transport(d)
    y = x @ t
    terms = frechet_terms(x, y, tolerance=tolerance)
    error = abs(terms.covariance - mapped_reference(x, t, 0)[1])
    assert error <= terms.bound
    assert error < 1e-9 * traces(x, y)


def test_float32_moments_are_not_refused_for_their_own_rounding():
    a, b = sample(30), sample(40, seed=1)
    moments = [m.astype(np.float32) for m in (a.mean(0), np.cov(a.T), b.mean(0), np.cov(b.T))]
    value = frechet_distance_from_moments(*moments, n_a=30, n_b=40)
    assert value == pytest.approx(frechet_distance(a, b), rel=1e-4)


def test_an_indefinite_covariance_is_refused():
    good = np.eye(6)
    for bad in (rotated([1, 1, 1, 1, 1, -0.1])[0], rotated([1, 1, 1, 1, 0, -1e-6])[0]):
        for pair in ((good, bad), (bad, good)):
            with pytest.raises(DataError, match="covariance"):
                frechet_distance_from_moments(np.zeros(6), pair[0], np.zeros(6), pair[1])


def test_an_indefinite_covariance_is_refused_however_loose_the_tolerance():
    bad = rotated([1, 1, 1, 1, 1, -0.1])[0]
    zero = np.zeros(6)
    with pytest.raises(DataError, match="negative eigenvalues"):
        frechet_distance_from_moments(zero, 1e-3 * np.eye(6), zero, bad, tolerance=1e9)


def well_conditioned():
    a, b = sample(4 * D), sample(5 * D, seed=1)
    return a.mean(0), np.cov(a.T), b.mean(0), np.cov(b.T)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_agrees_with_pytorch_fid_and_clean_fid():
    pytorch_fid = pytest.importorskip("pytorch_fid.fid_score")
    clean_fid = pytest.importorskip("cleanfid.fid")
    expected = frechet_distance_from_moments(*well_conditioned())
    for peer in (pytorch_fid.calculate_frechet_distance, clean_fid.frechet_distance):
        try:
            value = peer(*well_conditioned())
        except TypeError:
            pytest.skip("this peer calls sqrtm with an argument that this SciPy has dropped")
        assert value == pytest.approx(expected, rel=1e-6)


def test_agrees_with_torch_fidelity_and_torchmetrics():
    torch = pytest.importorskip("torch")
    fidelity = pytest.importorskip("torch_fidelity.metric_fid")
    torchmetrics = pytest.importorskip("torchmetrics.image.fid")
    mean_a, cov_a, mean_b, cov_b = well_conditioned()
    expected = frechet_distance_from_moments(mean_a, cov_a, mean_b, cov_b)
    value = fidelity.fid_statistics_to_metric(
        {"mu": mean_a, "sigma": cov_a}, {"mu": mean_b, "sigma": cov_b}, False
    )
    assert next(iter(value.values())) == pytest.approx(expected, rel=1e-6)
    tensors = (torch.from_numpy(x) for x in (mean_a, cov_a, mean_b, cov_b))
    assert float(torchmetrics._compute_fid(*tensors)) == pytest.approx(expected, rel=1e-6)


def test_agrees_with_the_general_square_root():
    linalg = pytest.importorskip("scipy.linalg")
    mean_a, cov_a, mean_b, cov_b = well_conditioned()
    root = np.trace(linalg.sqrtm(cov_a @ cov_b)).real
    expected = np.sum((mean_a - mean_b) ** 2) + np.trace(cov_a) + np.trace(cov_b) - 2 * root
    value = frechet_distance_from_moments(mean_a, cov_a, mean_b, cov_b)
    assert value == pytest.approx(expected, rel=1e-8)


THREADS = """
import numpy as np
from oodml.fid.frechet import frechet_distance
rng = np.random.default_rng(0)
a, b = rng.standard_normal((300, 200)), rng.standard_normal((310, 200)) * 2
print(repr(float(frechet_distance(a, b))), repr(float(frechet_distance(a[:150], b))))
"""


def test_the_number_of_threads_changes_nothing():
    values = []
    for threads in ("1", "2"):
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        run = subprocess.run(
            [sys.executable, "-c", THREADS],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=600,
        )
        values.append([float(value) for value in run.stdout.split()])
    assert values[0] == pytest.approx(values[1], rel=1e-9)


def test_sides_without_any_spread_differ_by_their_means():
    nothing = np.zeros((3, 3))
    terms = frechet_terms_from_moments([1.0, 0, 0], nothing, [0.0, 2, 0], nothing)
    assert (terms.mean, terms.covariance) == (5.0, 0.0)


def test_coordinates_that_vary_on_one_side_alone_leave_the_root() -> None:
    first, second = np.diag([1.0, 0.0, 2.0]), np.diag([4.0, 9.0, 0.0])
    for a, b in ((first, second), (second, first)):
        found = frechet_distance_from_moments(np.ones(3), a, np.zeros(3), b)
        assert found == pytest.approx(3 + 3 + 13 - 2 * 2, rel=1e-12)
