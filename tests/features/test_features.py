"""The Features record: checks, subsets, and the file it is kept in."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from oodml.errors import DataError
from oodml.features.features import Features, FeatureSource

SOURCE = FeatureSource("birds", "f" * 16, "tiny", "a" * 64, "rgb8, squash 8", "fp32")


def make(**changes: object) -> Features:
    fields = {
        "values": np.arange(12, dtype=np.float32).reshape(6, 2),
        "labels": np.array([0, 0, 1, 1, 2, 2]),
        "class_names": ("auk", "booby", "crow"),
        "source": SOURCE,
        "sample_names": tuple(f"{name}.png" for name in "abcdef"),
        "groups": ("sea", "sea", "land"),
    }
    return Features(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"values": np.zeros(6)}, "(6,)"),
        ({"values": np.zeros((5, 2))}, "(5, 2)"),
        ({"values": np.zeros((6, 0))}, "at least 1"),
        ({"labels": np.array([0, 0, 1, 1, 2, 3])}, "0 to 3"),
        ({"labels": np.array([0, 0, 1, 1, 2, -1])}, "-1 to 2"),
        ({"class_names": ("auk", "auk", "crow")}, "not unique"),
        ({"sample_names": ("a",)}, "1 sample names for 6"),
        ({"groups": ("sea",)}, "1 groups for 3"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(DataError) as caught:
        make(**changes)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_named(bad: float) -> None:
    values = np.zeros((6, 2))
    values[4, 1] = values[1] = bad
    with pytest.raises(DataError, match=r"2 of 6 feature rows .* 1 \(b.png\), 4 \(e.png\)"):
        make(values=values)


def test_opposite_infinities_do_not_cancel() -> None:
    values = np.zeros((6, 2))
    values[3] = np.inf, -np.inf
    with pytest.raises(DataError, match="3"):
        make(values=values)


def test_values_and_labels_get_their_types() -> None:
    features = make(values=np.ones((6, 2)), labels=np.array([0, 0, 1, 1, 2, 2], dtype=np.int32))
    assert features.values.dtype == np.float32
    assert features.labels.dtype == np.int64


def test_of_classes_gives_ascending_rows_and_refuses_unknown_names() -> None:
    assert make().of_classes(["crow", "auk"]).tolist() == [0, 1, 4, 5]
    with pytest.raises(DataError, match="dodo"):
        make().of_classes(["auk", "dodo"])


def test_subset_renumbers_labels_in_sorted_order() -> None:
    part = make(class_names=("crow", "booby", "auk")).subset(["crow", "auk"])
    assert part.class_names == ("auk", "crow")
    assert part.labels.tolist() == [1, 1, 0, 0]
    assert part.values[:, 0].tolist() == [0, 2, 8, 10]
    assert part.sample_names == ("a.png", "b.png", "e.png", "f.png")
    assert part.groups == ("land", "sea")


def test_a_saved_file_comes_back_whole(tmp_path: Path) -> None:
    odd = make(class_names=("auk", "böo\udc80by", "crow\0"), groups=None, sample_names=())
    for features in (make(), odd):
        features.save(tmp_path / "f.npz")
        loaded = Features.load(tmp_path / "f.npz")
        assert np.array_equal(loaded.values, features.values)
        assert np.array_equal(loaded.labels, features.labels)
        for field in ("class_names", "sample_names", "groups", "source"):
            assert getattr(loaded, field) == getattr(features, field)


def test_a_file_of_another_kind_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no feature file"):
        Features.load(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "stats.npz", mu=np.zeros(2), sigma=np.eye(2))
    np.savez(tmp_path / "pickled.npz", values=np.array([{}], dtype=object), labels=0, record="{}")
    make().save(tmp_path / "cut.npz")
    whole = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    for name in ("text.npz", "stats.npz", "pickled.npz", "cut.npz"):
        with pytest.raises(DataError, match=f"{name} is not a feature file") as caught:
            Features.load(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_network_tells_precision_and_preprocessing_apart_and_ignores_the_data() -> None:
    assert replace(SOURCE, dataset="cars", fingerprint="0").network == SOURCE.network
    for field in ("backbone", "weights", "preprocessing", "precision"):
        assert replace(SOURCE, **{field: "other"}).network != SOURCE.network


def test_the_record_does_not_need_torch() -> None:
    code = "import sys, oodml.features.features, oodml.features.backbones.registry as registry"
    code += "; registry.backbone_names()"
    code += "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_features_need_arrays_alone() -> None:
    values = np.arange(12.0).reshape(6, 2)
    made = Features.from_arrays(values, [0, 0, 2, 2, 1, 1], ["auk", "booby", "crow"])
    assert made.class_names == ("auk", "booby", "crow") and made.values.dtype == np.float32
    assert made.of_classes(["crow"]).tolist() == [2, 3]
    named = Features.from_arrays(torch.tensor(values), ["crow", "crow", "auk", "auk", "owl", "owl"])
    assert named.class_names == ("auk", "crow", "owl")
    assert named.labels.tolist() == [1, 1, 0, 0, 2, 2] and (named.values == made.values).all()
    numbered = Features.from_arrays(values, torch.tensor([7, 7, 3, 3, 3, 3]))
    assert numbered.class_names == ("3", "7") and numbered.labels.tolist() == [1, 1, 0, 0, 0, 0]
    assert numbered.source == Features.from_arrays(values, [7, 7, 3, 3, 3, 3]).source
    others = (Features.from_arrays(values + 1, [7, 7, 3, 3, 3, 3]),
              Features.from_arrays(values, [7, 3, 7, 3, 3, 3]))  # fmt: skip
    assert len({numbered.source, *(other.source for other in others)}) == 3
    with pytest.raises(DataError):
        Features.from_arrays(values, [0, 1, 2, 0, 1, 3], ["auk", "booby", "crow"])
