"""Cached views from the command line: made where a run asks for them, refused without images."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from oodml.cli import main
from oodml.data import load_dataset
from oodml.features.extraction import extract_features
from oodml.runs.store import Store
from oodml.splits.build.construction import build_ladder
from oodml.train.registry import all_methods

NEEDING = sorted(name for name, entry in all_methods().items() if "cached_views" in entry.settings)


@pytest.fixture(scope="module")
def place(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ladder of the drawings that remembers their folder, and their features in a file."""
    root = tmp_path_factory.mktemp("views")
    features = extract_features(load_dataset(image_folder), "tiny", cache=root / "cache")
    features.save(root / "features.npz")
    build_ladder(features, rungs=2, source=str(image_folder)).save(root / "ladder.json")
    return root


def oodml(place: Path, *arguments: str | Path) -> Result:
    given = [
        "run", place / "ladder.json", "--cache", place / "cache", "--rung", "0", "--seeds", "1",
        "--workers", "1", "--steps", "2", "--train-batch-size", "12", "-o", place / "runs",
        *arguments,
    ]  # fmt: skip
    return CliRunner().invoke(main, [str(each) for each in given], prog_name="oodml")


def folders(place: Path) -> int:
    return len(list((place / "cache" / "features").iterdir()))


def test_views_are_made_when_a_run_asks_for_them_and_only_then(place: Path) -> None:
    assert oodml(place, "-m", "contrastive").exit_code == 0
    assert folders(place) == 1
    result = oodml(place, "-m", "contrastive", "--cached-views", "2")
    assert result.exit_code == 0, result.output
    assert folders(place) == 3
    records = Store(place / "runs").records()
    assert sorted(record.spec.training.cached_views for record in records) == [0, 2]
    assert len({record.training["loss"] for record in records}) == 2


@pytest.mark.skipif(not NEEDING, reason="no method prescribes cached views")
def test_features_without_images_leave_out_what_needs_views(place: Path) -> None:
    data = ["--data", place / "features.npz"]
    every = oodml(place, "-m", "all", *data, "--dry-run")
    assert every.exit_code == 0, every.output
    assert f"left out: {', '.join(NEEDING)} (augmented views are made of images)" in every.output
    for arguments, named in (
        (["-m", NEEDING[0]], NEEDING[0]),
        (["-m", "all", "-m", NEEDING[0]], NEEDING[0]),
        (["-m", "contrastive", "--cached-views", "2"], "contrastive"),
    ):
        result = oodml(place, *arguments, *data)
        assert result.exit_code == 1
        last = result.stderr.strip().splitlines()[-1]
        assert (
            last.startswith(f"Error: {named}: augmented views are made of images")
            and "--data" in last
        )
