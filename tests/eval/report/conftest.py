"""A store of made-up runs on a small pool of drawings, for the tests of the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from conftest import make_features
from PIL import Image

from oodml.data.dataset import Dataset
from oodml.features.features import Features
from oodml.runs.record import RunRecord
from oodml.runs.spec import RunSpec
from oodml.runs.store import Store
from oodml.splits.construction.build_ladder import build_ladder
from oodml.splits.ladder import Ladder
from oodml.splits.measure import add_null
from oodml.splits.split import Split

# A class and a method that would run as code if a page took them for markup.
HOSTILE_CLASS = "class 000 </script><img src=x onerror=boom()>\u2028&lt;"
HOSTILE_METHOD = "<b onmouseover=boom()>&amp;</script>"
METRICS = ("recall_at_1", "recall_at_2", "recall_at_10", "mean_average_precision_at_r")


@dataclass(frozen=True)
class Pool:
    """Images, their features, the ladder on them and a store for runs."""

    dataset: Dataset
    features: Features
    ladder: Ladder
    store: Store


def make_pool(root: Path, rungs: int = 3, classes: int = 24, per_class: int = 6) -> Pool:
    """24 classes of 6 one-coloured pictures, a ladder with nulls, no runs yet."""
    plain = make_features(classes, per_class)
    names = (HOSTILE_CLASS, *plain.class_names[1:])
    samples = tuple(f"{label:03d}/{place}.png" for place, label in enumerate(plain.labels))
    dataset = Dataset(
        name="drawings",
        class_names=names,
        labels=plain.labels,
        sample_names=samples,
        paths=tuple(_picture(root / "images" / name) for name in samples),
        sizes=np.ones(len(samples), np.int64),
        groups=tuple(f"group {number % 3}" for number in range(classes)),
    )
    source = replace(plain.source, dataset=dataset.name, fingerprint=dataset.fingerprint)
    features = Features(plain.values, plain.labels, names, source, samples, dataset.groups)
    ladder = build_ladder(features, rungs=rungs, swap_size=2, min_classes=4)
    ladder = add_null(ladder, features, draws=8)
    return Pool(dataset, features, ladder, Store(root / "runs"))


def _picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    red = (int(path.parent.name) * 37) % 256
    Image.new("RGB", (20, 12), (red, 90, 160)).save(path)
    return path


def fill(pool: Pool, methods: Sequence[str], seeds: int, few_shot: bool = False) -> None:
    """Finished runs of every method on every rung; frozen has one seed."""
    for number, method in enumerate(methods):
        for rung, split in enumerate(pool.ladder.rungs):
            for seed in range(1 if method == "frozen" else seeds):
                record = _record(pool, method, number, rung, split, seed)
                if few_shot and method != "frozen":
                    record = replace(record, few_shot=_few_shot(record))
                pool.store.finish(record)


def _record(pool: Pool, method: str, number: int, rung: int, split: Split, seed: int) -> RunRecord:
    source = pool.features.source
    spec = RunSpec.on(
        source,
        split.id,
        method,
        train="none" if method == "frozen" else "head",
        seed=seed,
    )
    random = np.random.default_rng([number, rung, seed, False])
    slope = (0.12 + 0.004 * (number % 7)) / max(1, len(pool.ladder.rungs) - 1)
    first = 0.8 - 0.012 * number - slope * rung
    metrics = {
        name: float(first - 0.1 * place + 0.006 * random.standard_normal())
        for place, name in enumerate(METRICS)
    }
    metrics |= {"queries": 72, "queries_left_out": 0, "queries_tied": 0}
    shift = split.shift.to_json() if split.shift else {}
    return RunRecord(
        spec, shift, metrics, {"loss": 0.25}, {"torch": "2.0"}, 1.5, geometry={"test": {"rho": 0.5}}
    )


def _few_shot(record: RunRecord) -> dict[str, dict[str, object]]:
    before = record.metrics["recall_at_1"]
    return {
        str(shots): {
            "episodes": [
                {
                    "zero_shot": {"recall_at_1": before + 0.001 * episode, "queries": 60},
                    "few_shot": {"recall_at_1": before + 0.002 * episode + 0.01 * shots},
                }
                for episode in range(4)
            ],
            "left_out": 2 * (shots == 5),
        }
        for shots in (2, 5)
    }


def keep_embeddings(pool: Pool, record: RunRecord, noise: float = 0.0) -> Features:
    """Write `embeddings.npz` of a run: the features of its test classes, with noise."""
    split = pool.ladder.split_of(record.spec.data.split)
    assert split is not None
    test = pool.features.subset(split.test_classes)
    values = test.values + noise * np.random.default_rng(0).standard_normal(test.values.shape)
    source = replace(test.source, backbone=f"run {record.id}")
    embeddings = Features(values, test.labels, test.class_names, source, test.sample_names)
    embeddings.save(pool.store.run_directory(record.id) / "embeddings.npz")
    return embeddings
