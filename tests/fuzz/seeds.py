"""Valid records of every kind, made by the program itself: what the fuzzers start from."""

from __future__ import annotations

import io
import json
import pickle
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from oodml.features.features import Features, FeatureSource
from oodml.runs.record import RunRecord
from oodml.runs.spec import RunSpec
from oodml.runs.store import Store
from oodml.splits.construction.build_ladder import build_ladder
from oodml.splits.exchange import imported_ladder, published_splits
from oodml.splits.formats.csv import write_csv
from oodml.splits.formats.plain_pickle import read_plain_pickle
from oodml.splits.formats.published_pickle import PublishedSplit, write_published
from oodml.splits.ladder import Ladder
from oodml.splits.measure import add_null, measure_ladder

_SOURCE = FeatureSource("seeds", "0123456789abcdef", "tiny", "0" * 64, "none", "fp32")


@cache
def seeds() -> dict[str, list[bytes]]:
    """A few small valid inputs for every reader."""
    features = _features(5, 4)
    built = build_ladder(features, rungs=2, swap_size=1, easier=False)
    built = add_null(built, features, 2)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        published = [_shortened(split) for split in published_splits(built, features)]
        write_published(published, made / "published.pkl")
        write_csv(published, made / "ladder.csv")
        features.save(made / "features.npz")
        _features(2, 3).save(made / "small.npz")
        of_means = measure_ladder(built, features, level="class", null=0)
        ladders = [built, of_means, imported_ladder(published, "seeds")]
        record = _record(built)
        store = Store(made)
        store.note_grid([record.spec])
        return {
            "ladder": [_json(ladder.to_json()) for ladder in ladders],
            "run": [_json(record.to_json())],
            "grid": [path.read_bytes() for path in (made / "grids").iterdir()],
            "npz": [(made / name).read_bytes() for name in ("features.npz", "small.npz")],
            "npy": [_array(np.eye(3, dtype=kind)) for kind in ("<f4", ">f8", "<i2", "<f2")],
            "pickle": [(made / "published.pkl").read_bytes(), *_protocols(made / "published.pkl")],
            "csv": [
                (made / "ladder.csv").read_bytes(),
                b"class,side\na,train\nb,train\nc,test\nd,test\n",
                b"path,label\nx/1.jpg,x\ny/2.jpg,y\n",
            ],
        }


def _shortened(split: PublishedSplit) -> PublishedSplit:
    """The split with a single episode: short inputs are read more often in the same time."""
    few = {shots: {0: numbered[0]} for shots, numbered in split.episodes.items()}
    return replace(split, episodes=few)


def _features(classes: int, per_class: int) -> Features:
    random = np.random.default_rng(0)
    values = (
        random.standard_normal((classes * per_class, 4))
        + np.repeat(np.arange(classes), per_class)[:, None]
    )
    names = tuple(f"class {number:03d}" for number in range(classes))
    labels = np.repeat(np.arange(classes), per_class)
    samples = tuple(f"{names[label]}/{at}.jpg" for at, label in enumerate(labels))
    groups = tuple(f"group {number % 2}" for number in range(classes))
    return Features(values.astype(np.float32), labels, names, _SOURCE, samples, groups)


def _record(ladder: Ladder) -> RunRecord:
    rung = ladder.rungs[0]
    hyperparameters = {"beta": 0.6, "parts": [1, 2]}
    settings = {"hyperparameters": hyperparameters, "few_shot": "head", "mix": 0.25}
    spec = RunSpec.on(_SOURCE, rung.id, "margin", **settings)
    scores = {"recall_at_1": 0.5, "queries": 60}
    episode = {"zero_shot": scores, "few_shot": {"recall_at_1": 0.6}}
    return RunRecord(
        spec,
        rung.shift.to_json() if rung.shift else {},
        scores,
        {"loss": 0.25},
        {"torch": "2.0"},
        1.5,
        geometry={"test": {"rho": 0.5}},
        few_shot={"2": {"episodes": [episode, episode], "left_out": 0}},
    )


def _protocols(path: Path) -> list[bytes]:
    content = read_plain_pickle(path.read_bytes())
    return [pickle.dumps(content, protocol=protocol) for protocol in (0, 2, 4)]


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _array(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()
