"""Heads trained on cached views: which views they see, and who may not train without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from oodml.errors import DataError, UsageError
from oodml.features.features import Features
from oodml.runs.record import RunRecord
from oodml.runs.spec import RunSpec
from oodml.splits.construction.build_ladder import build_ladder
from oodml.splits.ladder import Ladder
from oodml.train import registry
from oodml.train.build import Resources, samples_of
from oodml.train.cached_views import Views, views_wanted
from oodml.train.data import Draw, FeatureSamples
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Batch, Criterion, Objective
from oodml.train.plan import plan
from oodml.train.registry import method
from oodml.train.run import train_run


def numbered(count: int, versions: int = 3) -> tuple[Views, Views]:
    """Features (n, 1) that say which sample, and views (V, n, 1) that say which version too."""
    plain = np.arange(count, dtype=np.float32)[:, None]
    return plain, np.stack([plain + 1000 * (version + 1) for version in range(versions)])


def test_training_sees_the_versions_and_evaluation_the_sample_itself(tmp_path: Path) -> None:
    plain, views = numbered(30)
    np.save(tmp_path / "views.npy", views)
    rows = np.array([20, 4, 11, 7])
    for values in (views, np.load(tmp_path / "views.npy", mmap_mode="r")):
        each = FeatureSamples(plain[rows], np.arange(4), np.asarray(values[:, rows]))
        index, draw = np.array([3, 0, 0, 2]), Draw(0, 6, 1)
        versions = draw.versions(4, 3)
        expected = torch.from_numpy(1000.0 * (versions + 1) + rows[index]).float()[:, None]
        assert torch.equal(each.training(index, draw), expected)
        assert torch.equal(each.begin(index, draw).result(), expected)
        assert torch.equal(each.evaluation(index)[:, 0], torch.tensor([7.0, 20.0, 20.0, 11.0]))


@pytest.fixture(scope="module")
def some() -> tuple[Features, Views]:
    from conftest import make_features

    features = make_features(12, 6, 8)
    noise = np.random.default_rng(0).standard_normal((3, *features.values.shape))
    return features, (features.values + 0.3 * noise).astype(np.float32)


def uneven(features: Features) -> Features:
    """The same without some samples, so that classes differ in size."""
    rows = np.flatnonzero(~np.isin(np.arange(len(features)), [0, 1, 12, 31, 50]))
    return replace(features, values=features.values[rows], labels=features.labels[rows])


def test_views_stay_beside_the_features_that_they_are_of(some: tuple[Features, Views]) -> None:
    features = uneven(some[0])
    plain, views = numbered(len(features))
    marked = Resources(replace(features, values=plain), views=views)
    ladder = build_ladder(features, rungs=2, min_classes=3)
    split = ladder.rungs[0]
    left = marked.training_part(split)
    assert len(left.features) < len(features) and left.views is not None
    assert np.array_equal(left.views, left.features.values + 1000 * np.arange(1, 4)[:, None, None])
    spec = one(ladder, "margin", cached_views=3)
    classes = split.train_classes
    own = samples_of(spec, classes, left, views=True)
    index = np.arange(len(own.labels))
    assert torch.equal(own.training(index, Draw(0, 0)) % 1000, own.evaluation(index))
    assert not torch.equal(own.training(index, Draw(0, 0)), own.evaluation(index))
    with pytest.raises(DataError, match=r"\(3, 5, 1\).* 67"):
        Resources(features, views=views[:, :5])


def one(ladder: Ladder, name: str, **settings: object) -> RunSpec:
    (spec,) = plan(ladder, [name], [0], rungs=[0], **settings)  # type: ignore[arg-type]
    return spec


@pytest.fixture(scope="module")
def ladder_of_some(some: tuple[Features, Views]) -> Ladder:
    return build_ladder(some[0], rungs=2)


class Compares(Objective):
    """Two views of a sample should lie together and off the other samples."""

    views = 2

    def loss(self, batch: Batch) -> Tensor:
        first, second = (self.encode(view).embedding for view in batch.views)
        own = torch.arange(len(first))
        return nn.functional.cross_entropy(10 * first @ second.T, own)


@pytest.fixture
def comparing() -> Iterator[Callable[..., None]]:
    """Registers a method of two views, with whatever settings, for one test."""

    def register(**settings: object) -> None:
        @method("of_two_views", paper="-", source="the test", **settings)  # type: ignore[arg-type]
        def build(
            num_classes: int, embedding_dim: int
        ) -> Callable[[RunSpec, EmbeddingModel], Compares]:
            """Compare views."""
            return lambda spec, model: Compares(spec, model, Criterion(nn.Identity()))

    yield register
    registry._REGISTRY.pop("of_two_views", None)


Run = Callable[..., RunRecord]


@pytest.fixture
def run(some: tuple[Features, Views], ladder_of_some: Ladder, tmp_path: Path) -> Run:
    features, views = some
    places = count()

    def done(name: str, given: Views | None = views, **settings: object) -> RunRecord:
        spec = one(ladder_of_some, name, steps=3, batch_size=24, **settings)
        resources = Resources(features, views=given)
        return train_run(spec, ladder_of_some.rungs[0], resources, tmp_path / str(next(places)))

    return done


def test_a_method_of_two_views_trains_on_cached_ones(
    run: Run, comparing: Callable[..., None], some: tuple[Features, Views]
) -> None:
    comparing(cached_views=2)
    record = run("of_two_views")
    assert record.spec.training.cached_views == 2
    # Identical views would be told apart at once: two versions that differ are not.
    same = run("of_two_views", np.stack([some[1][0]] * 2))
    assert same.training["loss"] < record.training["loss"]


def test_views_by_hand_give_any_method_augmented_features(run: Run) -> None:
    plain, varied = run("margin"), run("margin", cached_views=3)
    assert plain.spec.id != varied.spec.id
    assert plain.training["loss"] != varied.training["loss"]
    assert run("margin", cached_views=2).training["loss"] != varied.training["loss"]


def test_the_settings_hold_for_heads_only(
    ladder_of_some: Ladder, comparing: Callable[..., None]
) -> None:
    comparing(cached_views=4)
    assert one(ladder_of_some, "of_two_views").training.cached_views == 4
    assert one(ladder_of_some, "of_two_views", cached_views=7).training.cached_views == 7
    assert one(ladder_of_some, "of_two_views", train="all").training.cached_views == 0
    assert one(ladder_of_some, "frozen", cached_views=7).training.cached_views == 0
    assert one(ladder_of_some, "pca_whitening", cached_views=7).training.cached_views == 0
    specs = plan(ladder_of_some, ["margin", "of_two_views"], [0])
    assert views_wanted(specs) == 4 and views_wanted(specs[:1]) == 0
    with pytest.raises(UsageError, match="cached_views"):
        one(ladder_of_some, "margin", train="all", cached_views=2)


def test_a_method_of_two_views_never_trains_on_one(
    run: Run, comparing: Callable[..., None], some: tuple[Features, Views]
) -> None:
    comparing(cached_views=4)
    for few in (0, 1):
        with pytest.raises(UsageError, match=f"cached_views={few}: of_two_views"):
            run("of_two_views", cached_views=few)
    for given, number in ((None, 0), (some[1], 3)):
        with pytest.raises(DataError, match=f"of_two_views .* 4 .* {number};"):
            run("of_two_views", given)
    comparing()  # one that prescribes nothing, as a plug-in might
    with pytest.raises(UsageError, match="2 augmented views"):
        run("of_two_views")
