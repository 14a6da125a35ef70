"""The same grid twice on one machine: the ladder byte for byte, all that was measured bit for bit.

The second time in two workers, with other seeds of Python's hashes, from another directory, of
images that were written in another order. That process is this file: `python test_determinism.py
IMAGES RESULTS WORKERS`.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from oodml.data import load_dataset
from oodml.features.backbones.registry import load_backbone
from oodml.features.extraction import extract_features
from oodml.launch import run_grid
from oodml.runs.store import Store
from oodml.splits.construction.build_ladder import build_ladder
from oodml.train.build import Resources
from oodml.train.plan import plan

# One of each kind of randomness: none, tuples in a batch, drawn proxies, a memory of embeddings,
# heads with clusters of their own, made embeddings, heads that teach each other.
METHODS = ("frozen", "margin", "proxy_anchor", "xbm", "divide_and_conquer", "hdml", "s2sd")


def repeat(images: Path, results: Path, workers: int) -> None:
    """Build the ladder of `images` in `results` and do its runs, on features and on images."""
    dataset, backbone = load_dataset(images), load_backbone("tiny")
    pool = extract_features(dataset, backbone, cache=results / "cache")
    ladder = build_ladder(pool, rungs=2)
    ladder.save(results / "ladder.json")
    small = {"steps": 3, "batch_size": 12, "embedding_dim": 8}
    specs = plan(ladder, METHODS, [0], **small)  # type: ignore[arg-type]
    specs += plan(
        ladder, ["margin"], [0], train="all", rungs=[0], image_size=32, few_shot="head",
        few_shot_steps=2, **small,
    )  # type: ignore[arg-type]  # fmt: skip
    resources = Resources(pool, dataset, backbone)
    outcome = run_grid(specs, ladder, resources, Store(results), workers=workers)
    assert outcome.done == len(specs), outcome


def copied(images: Path, folder: Path) -> Path:
    """The same images, written in another order, in a folder elsewhere."""
    paths = sorted(images.rglob("*.png"))
    random.Random(1).shuffle(paths)
    for path in paths:
        copy = folder / images.name / path.relative_to(images)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return folder / images.name


def started(images: Path, results: Path, workers: int, hash_seed: int) -> subprocess.Popen[bytes]:
    results.mkdir()
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    arguments = [sys.executable, __file__, str(images), str(results), str(workers)]
    return subprocess.Popen(arguments, env=environment, cwd=results)


def measured(results: Path) -> dict[str, dict[str, Any]]:
    """What stands in the records, as text: every digit counts. Without times and versions."""
    records = {path.parent.name: json.loads(path.read_text()) for path in
               (results / "runs").glob("*/run.json")}  # fmt: skip
    for record in records.values():
        del record["seconds"], record["environment"]
        record["training"] = {
            key: value for key, value in record["training"].items() if "seconds" not in key
        }
    return records


@pytest.mark.long
def test_a_grid_gives_the_same_bits_in_other_processes(image_folder: Path, tmp_path: Path) -> None:
    there = started(
        copied(image_folder, tmp_path / "elsewhere"), tmp_path / "there", workers=2, hash_seed=1
    )
    here = tmp_path / "here"
    here.mkdir()
    repeat(image_folder, here, workers=1)
    assert there.wait() == 0
    assert (tmp_path / "there" / "ladder.json").read_bytes() == (here / "ladder.json").read_bytes()
    once, again = measured(here), measured(tmp_path / "there")
    assert len(once) == 2 * len(METHODS) + 1
    assert once == again


if __name__ == "__main__":
    repeat(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
