"""`oodml fid` on folders, feature files and statistics files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from commands.conftest import NETWORK, oodml, refused
from conftest import make_features, save_drawing

from oodml.features.features import Features
from oodml.fid.frechet import frechet_distance


def fid(*arguments: object) -> Result:
    return oodml("fid", *arguments)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two feature files: the halves of a pool whose classes lie on a line."""
    root = tmp_path_factory.mktemp("fid")
    pool = make_features(classes=24, per_class=20, dimension=8)
    paths = root / "a.npz", root / "b.npz"
    pool.subset(pool.class_names[:12]).save(paths[0])
    pool.subset(pool.class_names[12:]).save(paths[1])
    return paths


def test_the_distance_of_two_feature_files_with_its_null(files: tuple[Path, Path]) -> None:
    a, b = (Features.load(path).values for path in files)
    record = json.loads(fid(*files, "--format", "json").output)
    assert record["fid"] == pytest.approx(frechet_distance(a, b), rel=1e-9)
    assert record["fid"] == pytest.approx(record["mean_term"] + record["covariance_term"])
    assert (record["n_train"], record["n_test"]) == (240, 240)
    assert record["excess"] == pytest.approx(record["fid"] - record["null_mean"])
    # The halves of a line lie farther apart than random halves.
    assert record["z"] > 3
    text = fid(*files).output
    assert "null" in text and "excess" in text and "sample level" in text


def test_every_addition_is_printed_with_its_meaning(files: tuple[Path, Path]) -> None:
    result = fid(*files, "--null", 5, "--kid", "--mmd", "--infinity", "--bootstrap", 20)
    assert result.exit_code == 0, result.output
    assert result.stdout.count("in brackets") == 2 and " d samples" not in result.stdout
    for name in ("null", "excess", "KID", "MMD", "FID infinity", "interval", "bias"):
        assert f"\n{name}" in result.output
    shown = json.loads(fid(*files, "--level", "class", "--format", "json").output)
    assert shown["level"] == "class" and shown["n_train"] == 12 and shown["null_draws"] == 100


def test_statistics_files_come_and_go(files: tuple[Path, Path], tmp_path: Path) -> None:
    saved = tmp_path / "stats.npz"
    assert fid(files[0], "--save-stats", saved).exit_code == 0
    with np.load(saved) as stored:
        values = Features.load(files[0]).values.astype(np.float64)
        assert stored["mu"] == pytest.approx(values.mean(0))
        assert stored["sigma"] == pytest.approx(np.cov(values, rowvar=False))
        np.savez(tmp_path / "peer.npz", mu=stored["mu"], sigma=stored["sigma"])
    expected = json.loads(fid(*files, "--format", "json").output)["fid"]
    for path in (saved, tmp_path / "peer.npz"):
        record = json.loads(fid(path, files[1], "--format", "json").output)
        assert record["fid"] == pytest.approx(expected, rel=1e-9)
        assert "FID" in fid(path, files[1]).output


def test_folders_without_classes_are_measured_without_their_broken_images(tmp_path: Path) -> None:
    for name, first in (("one", 0), ("other", 3)):
        for number in range(first, first + 3):
            for sample in range(4):
                save_drawing(tmp_path / name / f"{number}-{sample}.png", number, sample)
    (tmp_path / "one" / "broken.png").write_bytes(b"no image")
    call = [tmp_path / "one", tmp_path / "other", "--cache", tmp_path / "cache", *NETWORK]
    assert "broken.png" in refused(1, "fid", *call)
    call.append("--skip-broken")
    result = fid(*call, "--format", "json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["fid"] > 0 and record["n_train"] == 12 and "null_mean" not in record
    for option, value in (("--null", 5), ("--bootstrap", 20), ("--level", "class")):
        error = refused(1, "fid", *call, option, value)
        assert "two or more classes" in error
        assert [name for name in ("--null", "--bootstrap", "--level") if name in error] == [option]
    text = fid(*call, "--kid")
    assert "null" not in text.output and "brackets" not in text.stdout
    assert "a side has fewer than 2560 images" in text.stdout


def test_what_cannot_be_measured_is_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = files
    stats = tmp_path / "stats.npz"
    fid(a, "--save-stats", stats)
    other = make_features(dimension=8)
    network = other.source.__class__("x", "y", "other", "0" * 64, "none", "bf16")
    Features(other.values, other.labels, other.class_names, network).save(tmp_path / "bf16.npz")
    np.savez(tmp_path / "torn.npz", mu=np.zeros(3), sigma=np.triu(np.ones((3, 3))))
    (tmp_path / "half.npz").write_bytes(a.read_bytes()[:500])
    cases = [
        ((a,), 2, "two collections"),
        ((a, tmp_path / "bf16.npz"), 1, "different networks"),
        ((a, tmp_path / "torn.npz"), 1, "symmetric"),
        ((a, tmp_path / "half.npz"), 1, "half.npz"),
        ((a, tmp_path / "absent.npz"), 1, "absent.npz"),
        ((stats, b, "--kid"), 2, "hold no samples"),
        ((stats, "--save-stats", tmp_path / "again.npz"), 2, "statistics already"),
        ((a, b, "--save-stats", tmp_path / "again.npz"), 2, "one collection"),
    ]
    for arguments, code, words in cases:
        assert words in refused(code, "fid", *arguments)
    assert not (tmp_path / "again.npz").exists()
