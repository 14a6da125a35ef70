"""The finite-sample bias of a Frechet distance, and its extrapolation to infinite samples."""

from __future__ import annotations

import numpy as np

from oodml.errors import UsageError
from oodml.fid.class_moments import ClassMoments, Indices
from oodml.fid.frechet import terms_of_covariances
from oodml.fid.matrix_root import Matrix
from oodml.seeding import generator

# The fit against 1/n is straight only from about d samples a side (measured in 2048 dimensions),
# so the smallest subset, half of the samples, must hold that many.
SAMPLES_PER_DIMENSION = 2
FRACTIONS = (0.5, 0.55, 0.6, 0.7, 0.8, 0.9, 1.0)


def expected_bias(covariance: Matrix, n_a: int, n_b: int) -> float:
    """The Frechet distance to expect between two samples of one Gaussian with this covariance.

    (1/n_a + 1/n_b) (sum l_i + 1/2 sum_ij l_i l_j (1 + [i = j]) / (l_i + l_j)) over its eigenvalues
    l: second order in the errors of mean and covariance, for n well above d. Below about 2 d
    samples it falls short of the true bias, by a quarter at n = d / 4. `covariance` is (d, d)
    float64.
    """
    values = np.clip(np.linalg.eigvalsh(covariance), 0.0, None)
    values = values[values > values[-1] * np.finfo(np.float64).eps]
    products = np.outer(values, values) / (values[:, None] + values[None, :])
    second = 0.5 * (products.sum() + products.trace())
    return float((1 / n_a + 1 / n_b) * (values.sum() + second))


def infinite_sample_distance(
    statistics: ClassMoments, train: Indices, test: Indices, *, seed: int = 0
) -> float:
    """The Frechet distance extrapolated to infinitely many samples of the same classes.

    A straight line through the distances of seeded random subsets, 50 to 100% of the samples of
    both sides, against 1/n (arXiv 1911.07023). Raises UsageError below 2 d samples a side, where
    such extrapolation is off by more than the distance itself. `train` and `test` are class indices
    (c,).
    """
    fewest = min(statistics.size(train), statistics.size(test))
    needed = SAMPLES_PER_DIMENSION * statistics.dimension
    if fewest < needed:
        raise UsageError(
            f"{fewest} samples on one side; extrapolation to infinite samples needs"
            f" {needed} (2 per dimension). Use the excess over the null instead."
        )
    draw = generator(seed, "infinite samples")
    orders = [draw.permutation(statistics.rows(side)) for side in (train, test)]
    values = []
    for fraction in FRACTIONS:
        moments = [statistics.of_rows(rows[: round(fraction * len(rows))]) for rows in orders]
        terms = terms_of_covariances(
            moments[0].mean - moments[1].mean, moments[0].covariance, moments[1].covariance
        )
        values.append(terms.value)
    return float(np.polyfit(1 / np.array(FRACTIONS), values, 1)[1])
