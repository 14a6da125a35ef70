"""The distance between samples: closed forms, 40-digit references, invariances, every branch."""

from __future__ import annotations

import itertools

import mpmath
import numpy as np
import pytest
from fid.conftest import D, mapped_reference, sample, traces, transport

from oodml.errors import OodmlError
from oodml.fid import frechet
from oodml.fid.frechet import (
    assemble,
    frechet_distance,
    frechet_distance_from_moments,
    frechet_terms,
    frechet_terms_from_moments,
)
from oodml.fid.matrix_root import (
    EPSILON,
    RootTrace,
    gram_trace,
)
from oodml.seeding import generator


def mpmath_terms(a, b):
    with mpmath.workdps(40):
        covariances, means = [], []
        for x in (a, b):
            rows = mpmath.matrix(x.tolist())
            n = rows.rows
            mean = [mpmath.fsum(rows[:, j]) / n for j in range(rows.cols)]
            centred = mpmath.matrix(n, rows.cols)
            for i, j in itertools.product(range(n), range(rows.cols)):
                centred[i, j] = rows[i, j] - mean[j]
            covariances.append(centred.T * centred / (n - 1))
            means.append(mean)
        values, vectors = mpmath.eigsy(covariances[0])
        root = mpmath.diag([mpmath.sqrt(max(v, 0)) for v in values])
        root = vectors * root * vectors.T
        product = mpmath.eigsy(root * covariances[1] * root, eigvals_only=True)
        trace = mpmath.fsum(mpmath.sqrt(max(v, 0)) for v in product)
        total = sum(c[i, i] for c in covariances for i in range(c.rows))
        mean = mpmath.fsum((p - q) ** 2 for p, q in zip(*means, strict=True))
        return float(mean), float(total - 2 * trace), float(total)


@pytest.mark.parametrize("n", [2, 5, 20, 98, D - 1, D, D + 1, 3 * D])
def test_mapped_sample_has_the_closed_form(n):
    x, t = sample(n), transport()
    y = x @ t + 0.5
    terms = frechet_terms(x, y)
    mean, covariance = mapped_reference(x, t, 0.5)
    assert terms.mean == pytest.approx(mean, rel=1e-10)
    assert abs(terms.covariance - covariance) < 1e-12 * traces(x, y)
    assert abs(terms.covariance - covariance) <= terms.bound


def test_mapped_sample_in_2048_dimensions():
    x, t = sample(98, 2048), transport(2048)
    y = x @ t
    error = abs(frechet_terms(x, y).covariance - mapped_reference(x, t, 0)[1])
    assert error < 1e-12 * traces(x, y)


@pytest.mark.parametrize("power", [1, 2, 3, 5])
@pytest.mark.parametrize("n", [100, 600])
def test_decaying_spectra_take_the_slow_path_and_stay_exact(n, power):
    x = sample(n, spectrum=np.arange(1.0, D + 1) ** (-2 * power))
    t = transport()
    y = x @ t
    terms = frechet_terms(x, y)
    error = abs(terms.covariance - mapped_reference(x, t, 0)[1])
    assert error < 1e-9 * traces(x, y)
    assert error <= terms.bound
    # Too wide a bound on the quick path must have sent it here.
    assert terms.bound < 1.1e-9 * traces(x, y)


@pytest.mark.parametrize("d", [1, 2, 5, 16])
@pytest.mark.parametrize("sizes", [(2, 3), (4, 40), (30, 33)])
def test_equals_forty_digit_arithmetic(d, sizes):
    a, b = (sample(n, d, seed) for seed, n in enumerate(sizes))
    terms = frechet_terms(a, b)
    mean, covariance, total = mpmath_terms(a, b)
    assert terms.mean == pytest.approx(mean, rel=1e-12)
    assert abs(terms.covariance - covariance) < 1e-12 * total
    assert abs(terms.covariance - covariance) <= terms.bound


def test_rank_deficient_samples_equal_forty_digit_arithmetic():
    rng = generator(0, "rank")
    a = rng.standard_normal((40, 3)) @ rng.standard_normal((3, 8))
    b = rng.standard_normal((50, 5)) @ rng.standard_normal((5, 8)) + 1
    terms = frechet_terms(a, b)
    _, covariance, total = mpmath_terms(a, b)
    assert abs(terms.covariance - covariance) < 1e-9 * total


def test_one_dimension_is_the_textbook_formula():
    a, b = sample(30, 1), 2 * sample(50, 1, seed=1) + 3
    expected = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("n", [2, 98, 3 * D])
def test_a_sample_is_at_distance_zero_from_itself(n):
    x = sample(n)
    order = generator(0, "order").permutation(n)
    assert frechet_distance(x, x) < 1e-9 * traces(x)
    assert frechet_distance(x, x[order]) < 1e-9 * traces(x)


def test_duplicated_rows_change_the_covariance_only_by_its_denominator():
    x = sample(60)
    expected = (1 - np.sqrt((2 * 59) / 119)) ** 2 * np.var(x, axis=0, ddof=1).sum()
    assert frechet_distance(x, np.repeat(x, 2, axis=0)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("sizes", [(20, 20), (20, 90), (150, 160), (40, 500), (300, 300)])
def test_swapping_the_sides_gives_the_same_bits(sizes):
    a, b = sample(sizes[0]), sample(sizes[1], seed=1)
    assert frechet_terms(a, b) == frechet_terms(b, a)


@pytest.mark.parametrize("offset", [1.0, 1e2, 1e4])
def test_translation_changes_nothing(offset):
    a, b = sample(50), sample(400, seed=1)
    plain = frechet_distance(a, b)
    # What is lost is the last bits of the shifted numbers themselves.
    change = abs(frechet_distance(a + offset, b + offset) - plain)
    assert change < 1e-15 * D * offset + 1e-14 * plain


@pytest.mark.parametrize("n", [20, 100])
def test_a_mean_far_above_the_spread_costs_no_digits(n):
    # Whole numbers: the translated sample is exact, so the distance must be too.
    a, b = (generator(seed, "whole").integers(-50, 50, (n + seed, 24)) for seed in (0, 1))
    plain, far = frechet_terms(a, b), frechet_terms(a + 2.0**48, b + 2.0**48)
    assert far.mean == pytest.approx(plain.mean, rel=1e-12)
    assert far.covariance == pytest.approx(plain.covariance, rel=1e-11)


@pytest.mark.parametrize("n", [50, 3 * D])
def test_rotation_and_scale(n):
    a, b = sample(n), sample(n, seed=1)
    rotation, _ = np.linalg.qr(generator(0, "rotation").standard_normal((D, D)))
    plain = frechet_distance(a, b)
    assert frechet_distance(a @ rotation, b @ rotation) == pytest.approx(plain, rel=1e-11)
    for scale in (1e-6, 1e-3, 7.0, 1e5):
        scaled = frechet_distance(a * scale, b * scale)
        assert scaled == pytest.approx(scale**2 * plain, rel=1e-10)


def test_equal_covariances_leave_the_means():
    x = sample(80)
    assert frechet_distance(x, x + 0.25) == pytest.approx(D / 16, rel=1e-9)


@pytest.mark.parametrize("n", [40, 3 * D])
def test_constant_and_duplicated_columns(n):
    a, b = sample(n), sample(n + 1, seed=1)
    plain = frechet_distance(a, b)
    widened = (np.pad(x, ((0, 0), (0, 30)), constant_values=0.1) for x in (a, b))
    assert frechet_distance(*widened) == pytest.approx(plain, rel=1e-10)
    doubled = (np.tile(x, 2) for x in (a, b))
    assert frechet_distance(*doubled) == pytest.approx(2 * plain, rel=1e-9)


def test_a_constant_side_leaves_mean_and_trace():
    a, b = np.full((5, D), 0.1), sample(70)
    expected = np.sum((b.mean(axis=0) - 0.1) ** 2) + traces(b)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)
    assert frechet_distance(a, a) == 0.0


def test_a_column_constant_on_one_side_only():
    a, b = sample(300, 8), sample(300, 8, seed=1)
    a[:, 3] = 0.7
    _, covariance, total = mpmath_terms(a, b)
    assert abs(frechet_terms(a, b).covariance - covariance) < 1e-9 * total


def test_distances_obey_the_triangle_inequality():
    for seed in range(10):
        a, b, c = (sample(25, 12, 3 * seed + i) * (i + 1) for i in range(3))
        roots = [np.sqrt(frechet_distance(*pair)) for pair in ((a, b), (b, c), (a, c))]
        assert min(roots) >= 0
        assert roots[2] <= roots[0] + roots[1] + 1e-9


@pytest.mark.parametrize("sizes", [(60, 180), (60, 181), (1000, 1001), (1001, 1002)])
def test_both_sides_of_the_size_thresholds_equal_the_moments(sizes):
    a, b = (sample(n, 1002 if n >= 1000 else 300, seed) for seed, n in enumerate(sizes))
    terms = frechet_terms(a, b)
    moments = frechet_terms_from_moments(
        a.mean(axis=0), np.cov(a.T), b.mean(axis=0), np.cov(b.T), n_a=len(a), n_b=len(b)
    )
    assert terms.covariance == pytest.approx(moments.covariance, abs=1e-9 * traces(a, b))


def test_large_samples_are_read_in_blocks():
    a, b = sample(9000, 24), sample(5000, 24, seed=1)
    expected = frechet_terms_from_moments(a.mean(0), np.cov(a.T), b.mean(0), np.cov(b.T))
    assert frechet_distance(a, b) == pytest.approx(expected.value, rel=1e-9)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int8, np.int64, np.uint8])
def test_other_dtypes_are_raised_to_float64(dtype):
    a = (10 * np.abs(sample(40, 16))).astype(dtype)
    b = (10 * np.abs(sample(60, 16, seed=1))).astype(dtype)
    assert frechet_terms(a, b) == frechet_terms(a.astype(np.float64), b.astype(np.float64))


def test_torch_tensors_equal_arrays():
    torch = pytest.importorskip("torch")
    a, b = sample(40, 16), sample(60, 16, seed=1)
    expected = frechet_terms(a, b)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in devices:
        tensors = (torch.tensor(x, device=device, requires_grad=True) for x in (a, b))
        assert frechet_terms(*tensors) == expected
    half = torch.tensor(a, dtype=torch.bfloat16)
    assert frechet_terms(half, b) == frechet_terms(half.to(torch.float64).numpy(), b)


def test_samples_that_begin_alike_are_put_in_order_too() -> None:
    random = np.random.default_rng(1)
    for shape in ((30, 4), (4, 30)):
        a = random.standard_normal(shape)
        b = random.standard_normal(shape)
        b[:2] = a[:2]
        b[2, 0] = a[2, 0]
        assert frechet_distance(a, b) == frechet_distance(b, a)


def test_coordinates_of_any_scale_count_unless_they_are_constant() -> None:
    random = np.random.default_rng(7)
    scales = np.array([1e-9, 1.0, 1e4])
    a, b = (random.standard_normal((60, 3)) * scales * spread for spread in (1.0, 2.0))
    for kept in ([0], [1], [2], [0, 1], [0, 1, 2]):
        one, other = (np.cov(side[:, kept], rowvar=False).reshape(len(kept), -1) for side in (a, b))
        root = np.sqrt(np.linalg.eigvals(one @ other).real.clip(0)).sum()
        difference = a[:, kept].mean(axis=0) - b[:, kept].mean(axis=0)
        expected = difference @ difference + np.trace(one) + np.trace(other) - 2 * root
        assert frechet_distance(a[:, kept], b[:, kept]) == pytest.approx(expected, rel=1e-6, abs=0)


def test_the_bound_of_a_distance_is_twice_that_of_its_trace_and_rounding() -> None:
    terms = assemble(1.0, (2.0, 3.0), RootTrace(1.0, 1e-3))
    assert (terms.mean, terms.covariance) == (1.0, 3.0)
    assert terms.bound == pytest.approx(2e-3 + 16 * EPSILON * 5, rel=1e-12)
    assert assemble(0.0, (2.0, 2.0), RootTrace(2.0 + 4e-4, 1e-3)).covariance == 0.0
    for trace in (2.0 + 2.1e-3, -1e-9):
        with pytest.raises(OodmlError, match="breaks its limits"):
            assemble(0.0, (2.0, 2.0), RootTrace(trace, 1e-3))


def test_few_rows_against_many_are_measured_by_their_gram_matrix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def listening(gram: np.ndarray, rank: int, trace_product: float) -> RootTrace:
        asked.append((rank, trace_product))
        return gram_trace(gram, rank, trace_product)

    monkeypatch.setattr(frechet, "gram_trace", listening)
    random = np.random.default_rng(8)
    few, many = 3 * random.standard_normal((5, 40)), random.standard_normal((30, 40))
    found = frechet_distance(few, many)
    traces = [side.var(axis=0, ddof=1).sum() for side in (few, many)]
    assert asked == [(4, pytest.approx(traces[0] * traces[1], rel=1e-12))]
    covariances = [np.cov(side, rowvar=False) for side in (few, many)]
    counted = frechet_distance_from_moments(
        few.mean(axis=0), covariances[0], many.mean(axis=0), covariances[1], n_a=5, n_b=30
    )
    assert found == pytest.approx(counted, rel=1e-9)
