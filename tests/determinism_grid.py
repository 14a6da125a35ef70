"""A whole pipeline from a folder of images to a store of runs, for the test that repeats it.

Run as `python determinism_grid.py IMAGES RESULTS WORKERS`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from oodml.data import load_dataset
from oodml.features.backbones.registry import load_backbone
from oodml.features.extraction import extract_features
from oodml.launch import run_grid
from oodml.runs.store import Store
from oodml.splits.build.construction import build_ladder
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


if __name__ == "__main__":
    repeat(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
