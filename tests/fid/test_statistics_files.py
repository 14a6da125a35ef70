"""Files of means and covariances, ours and those of peers."""

from __future__ import annotations

import numpy as np
import pytest
from fid.conftest import sample, traces

from oodml.errors import DataError
from oodml.fid.frechet import frechet_terms
from oodml.fid.statistics_files import (
    GaussianStatistics,
    read_statistics,
    statistics_terms,
    write_statistics,
)


@pytest.mark.parametrize("sizes", [(20, 30), (300, 400)])
def test_statistics_files_keep_the_distance(tmp_path, sizes):
    samples = [sample(n, 32, seed) for seed, n in enumerate(sizes)]
    for name, values in zip("ab", samples, strict=True):
        write_statistics(tmp_path / name, GaussianStatistics.of(values, network="made"))
    a, b = read_statistics(tmp_path / "a"), read_statistics(tmp_path / "b")
    assert (a.count, a.network) == (sizes[0], "made")
    expected = frechet_terms(*samples)
    assert abs(statistics_terms(a, b).value - expected.value) < 1e-9 * traces(*samples)


def test_files_of_peers_are_read(tmp_path):
    samples = [sample(n, 32, seed) for seed, n in enumerate((200, 300))]
    for name, values in zip("ab", samples, strict=True):
        np.savez(tmp_path / f"{name}.npz", mu=values.mean(0), sigma=np.cov(values.T))
    a, b = read_statistics(tmp_path / "a.npz"), read_statistics(tmp_path / "b.npz")
    assert (a.count, a.network) == (None, None)
    expected = frechet_terms(*samples).value
    assert statistics_terms(a, b).value == pytest.approx(expected, rel=1e-9)


def test_pytorch_fid_reads_our_files(tmp_path):
    peer = pytest.importorskip("pytorch_fid.fid_score")
    statistics = GaussianStatistics.of(sample(80, 16), network="made")
    write_statistics(tmp_path / "a.npz", statistics)
    mean, covariance = peer.compute_statistics_of_path(
        str(tmp_path / "a.npz"), None, 1, 16, "cpu", 0
    )
    assert (mean == statistics.mean).all()
    assert (covariance == statistics.covariance).all()


def test_bad_statistics_files_are_refused_by_name(tmp_path):
    mean, covariance = np.zeros(4), np.eye(4)
    skewed, indefinite, broken = covariance.copy(), covariance.copy(), covariance.copy()
    skewed[0, 1] = 0.5
    indefinite[0, 1] = indefinite[1, 0] = 2.0
    broken[0, 1] = np.nan
    cases = {
        "not symmetric": {"mu": mean, "sigma": skewed},
        "not positive semidefinite": {"mu": mean, "sigma": indefinite},
        "NaN or infinity": {"mu": mean, "sigma": broken},
        "no sigma": {"mu": mean},
        "shape": {"mu": np.zeros(3), "sigma": covariance},
    }
    path = tmp_path / "statistics.npz"
    for message, arrays in cases.items():
        np.savez(path, **arrays)
        with pytest.raises(DataError, match=message) as error:
            read_statistics(path)
        assert str(path) in str(error.value)
    path.write_bytes(b"not a zip file")
    with pytest.raises(DataError, match="not a readable"):
        read_statistics(path)
    with pytest.raises(DataError, match="no statistics file"):
        read_statistics(tmp_path / "absent.npz")
    np.savez(path, mu=np.array([object()]), sigma=covariance)
    with pytest.raises(DataError, match="not a readable"):
        read_statistics(path)


def test_networks_are_not_mixed():
    a, b = (GaussianStatistics.of(sample(9, 4), network) for network in ("one", "other"))
    with pytest.raises(DataError, match="different networks"):
        statistics_terms(a, b)
