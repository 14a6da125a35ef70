"""The feature cache: its key, what is computed again, damage, kills and two processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from features.conftest import SHARD, extract, make_folder, seen, shards, tiny

from oodml.data import load_dataset
from oodml.data.dataset import Dataset
from oodml.errors import DataError
from oodml.features.extraction import extract_features


def test_a_second_call_reads_the_same_bits_and_decodes_nothing(
    dataset: Dataset, tmp_path: Path
) -> None:
    first, _ = extract(dataset, tmp_path)
    second, decoded = extract(dataset, tmp_path)
    assert decoded == 0
    assert np.array_equal(first.values, second.values)


def test_everything_that_decides_the_values_is_in_the_key(dataset: Dataset, tmp_path: Path) -> None:
    variants = [
        tiny(),
        replace(tiny(), weights="1" * 64),
        replace(tiny(), preprocessing="other"),
        replace(tiny(), name="other"),
    ]
    for backbone in variants:
        extract_features(dataset, backbone, cache=tmp_path)
        assert seen(backbone) == 36
    assert extract(dataset, tmp_path, precision="bf16")[1] == 36
    order = np.arange(36)[::-1]
    backward = replace(
        dataset,
        labels=dataset.labels[order],
        sizes=dataset.sizes[order],
        sample_names=dataset.sample_names[::-1],
        paths=dataset.paths[::-1],
    )
    assert backward.fingerprint == dataset.fingerprint
    mirrored, _ = extract(backward, tmp_path)
    features, decoded = extract(dataset, tmp_path)
    assert decoded == 0, "the two orders lie side by side"
    assert np.allclose(mirrored.values[::-1], features.values, atol=1e-5)


def test_the_cache_follows_the_environment(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OODML_CACHE", str(tmp_path / "here"))
    extract_features(dataset, tiny())
    assert len(shards(tmp_path / "here")) == 5


def test_a_picture_exchanged_under_its_name_is_computed_anew(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images", suffix="bmp")
    before, _ = extract(load_dataset(root), tmp_path / "cache")
    path = load_dataset(root).paths[10]
    content = bytearray(path.read_bytes())
    content[-600:] = bytes(600)
    path.write_bytes(content)
    after, decoded = extract(load_dataset(root), tmp_path / "cache")
    assert before.source == after.source
    assert decoded == SHARD
    changed = np.flatnonzero(np.any(before.values != after.values, axis=1))
    assert changed.tolist() == [10]


def test_files_that_were_only_touched_are_not_computed_again(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images")
    extract(load_dataset(root), tmp_path / "cache")
    for path in root.rglob("*.png"):
        os.utime(path, (1, 1))
    assert extract(load_dataset(root), tmp_path / "cache")[1] == 0


@pytest.mark.parametrize("damage", ["cut", "flip", "foreign", "text", "shape"])
def test_a_damaged_or_foreign_shard_is_refused_by_name(
    dataset: Dataset, tmp_path: Path, damage: str
) -> None:
    extract(dataset, tmp_path)
    target = shards(tmp_path)[2]
    content = bytearray(target.read_bytes())
    if damage == "cut":
        target.write_bytes(content[:-40])
    if damage == "flip":
        content[300] ^= 1
        target.write_bytes(content)
    if damage == "foreign":
        extract_features(dataset, replace(tiny(), name="other"), cache=tmp_path / "b")
        target.write_bytes(shards(tmp_path / "b")[2].read_bytes())
    if damage == "text":
        target.write_text("hello")
    if damage == "shape":
        target.write_bytes(shards(tmp_path)[4].read_bytes())
    with pytest.raises(DataError, match=f"{target.name} is damaged or foreign.*delete") as caught:
        extract(dataset, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_directory_that_is_not_what_its_name_says_is_refused(
    dataset: Dataset, tmp_path: Path
) -> None:
    extract(dataset, tmp_path)
    record = shards(tmp_path)[0].parent / "record.json"
    record.write_text(record.read_text().replace("0" * 64, "1" * 64))
    with pytest.raises(DataError, match=record.parent.name):
        extract(dataset, tmp_path)


def test_a_cache_that_cannot_be_written_is_one_line(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write the feature cache.*OODML_CACHE"):
        extract(dataset, tmp_path / "file")


VICTIM = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from features.conftest import SHARD, tiny
from oodml.data import load_dataset
from oodml.features import cache
from oodml.features.extraction import extract_features
torch.set_num_threads(1)
cache.SHARD = SHARD
extract_features(load_dataset(sys.argv[2]), tiny(pause=0.05), cache=sys.argv[3])
"""


def test_a_killed_extraction_goes_on_where_it_stood_bit_for_bit(
    dataset: Dataset, tmp_path: Path
) -> None:
    root, cache = dataset.paths[0].parent.parent, tmp_path / "cache"
    victim = subprocess.Popen(
        [sys.executable, "-c", VICTIM, str(Path(__file__).parents[1]), str(root), str(cache)]
    )
    deadline = time.monotonic() + 120
    while len(shards(cache)) < 2 and time.monotonic() < deadline:
        assert victim.poll() is None, "the extraction ended before it could be killed"
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    finished = {path: path.stat().st_mtime_ns for path in shards(cache)}
    assert 2 <= len(finished) < 5

    resumed, decoded = extract(dataset, cache)
    assert decoded == 36 - SHARD * len(finished)
    assert all(path.stat().st_mtime_ns == written for path, written in finished.items())
    whole, _ = extract(dataset, tmp_path / "other")
    assert np.array_equal(resumed.values, whole.values)


def test_two_processes_at_once_share_the_work(dataset: Dataset, tmp_path: Path) -> None:
    root = dataset.paths[0].parent.parent
    victim = subprocess.Popen(
        [sys.executable, "-c", VICTIM, str(Path(__file__).parents[1]), str(root), str(tmp_path)]
    )
    while not shards(tmp_path):
        assert victim.poll() is None
        time.sleep(0.01)
    features, decoded = extract(dataset, tmp_path)
    assert victim.wait() == 0
    assert decoded == 0
    assert np.isfinite(features.values).all()
