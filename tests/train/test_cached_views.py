"""Cached views: made once, the same for everybody, and seen by training alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from oodml.data import load_dataset
from oodml.data.dataset import Dataset
from oodml.errors import DataError, UsageError
from oodml.fid.backbone import Backbone, load_backbone
from oodml.fid.features import Features, extract_features
from oodml.seeding import generator
from oodml.splits.build import build_ladder
from oodml.splits.ladder import Ladder
from oodml.store import RunRecord, RunSpec
from oodml.train import cached_views as module
from oodml.train import registry, samples
from oodml.train.augmentation import augmented
from oodml.train.build import Resources, samples_of
from oodml.train.cached_views import Views, cached_views, views_wanted
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Batch, Criterion, Objective
from oodml.train.plan import plan
from oodml.train.registry import method
from oodml.train.run import train
from oodml.train.samples import CachedViews, Draw, FeatureSamples

SAMPLES = 40


def test_two_views_of_a_batch_never_meet_the_same_version() -> None:
    for among in (2, 3, 5):
        drawn = np.stack([Draw(0, 3, view).versions(SAMPLES, among) for view in range(among)])
        assert np.array_equal(np.sort(drawn, axis=0), np.arange(among)[:, None].repeat(SAMPLES, 1))
    more = [Draw(0, 3, view).versions(SAMPLES, 2) for view in (0, 2)]
    assert np.array_equal(*more)  # all versions are used up
    assert not np.array_equal(Draw(0, 3).versions(SAMPLES, 4), Draw(0, 4).versions(SAMPLES, 4))
    assert not np.array_equal(Draw(0, 3).versions(SAMPLES, 4), Draw(1, 3).versions(SAMPLES, 4))


def test_every_version_comes_equally_often() -> None:
    drawn = np.concatenate([Draw(0, step).versions(SAMPLES, 4) for step in range(100)])
    assert np.abs(np.bincount(drawn) / len(drawn) - 0.25).max() < 0.03


def test_the_version_of_a_sample_depends_on_no_share_of_the_batch() -> None:
    for view in (0, 1):
        whole = Draw(5, 9, view).versions(SAMPLES, 4)
        parts = [Draw(5, 9, view, first).versions(10, 4) for first in range(0, SAMPLES, 10)]
        assert np.array_equal(np.concatenate(parts), whole)


def test_a_batch_asks_for_one_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def counted(*purpose: object) -> np.random.Generator:
        asked.append(purpose)
        return generator(*purpose)  # type: ignore[arg-type]

    monkeypatch.setattr(samples, "generator", counted)
    Draw(0, 0).versions(SAMPLES, 4)
    assert len(asked) == 1


def numbered(count: int, versions: int = 3) -> tuple[Views, Views]:
    """Features (n, 1) that say which sample, and views (V, n, 1) that say which version too."""
    plain = np.arange(count, dtype=np.float32)[:, None]
    return plain, np.stack([plain + 1000 * (version + 1) for version in range(versions)])


def test_training_sees_the_versions_and_evaluation_the_sample_itself(tmp_path: Path) -> None:
    plain, views = numbered(30)
    np.save(tmp_path / "views.npy", views)
    rows = np.array([20, 4, 11, 7])
    for values in (views, np.load(tmp_path / "views.npy", mmap_mode="r")):
        each = FeatureSamples(plain[rows], np.arange(4), CachedViews(values, rows))
        index, draw = np.array([3, 0, 0, 2]), Draw(0, 6, 1)
        versions = draw.versions(4, 3)
        expected = torch.from_numpy(1000.0 * (versions + 1) + rows[index]).float()[:, None]
        assert torch.equal(each.training(index, draw), expected)
        assert torch.equal(each.begin(index, draw).result(), expected)
        assert torch.equal(each.evaluation(index)[:, 0], torch.tensor([7.0, 20.0, 20.0, 11.0]))


@pytest.fixture(scope="module")
def pool(image_folder: Path) -> Dataset:
    return load_dataset(image_folder)


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return load_backbone("tiny")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def views(pool: Dataset, tiny: Backbone, cache: Path) -> Views:
    return cached_views(pool, tiny, 3, cache=cache)


def test_a_view_is_the_backbones_answer_to_an_augmented_image(
    pool: Dataset, tiny: Backbone, views: Views
) -> None:
    assert views.shape == (3, len(pool), 48) and views.dtype == np.float32
    transform = tiny.transform
    for version, row in ((0, 5), (2, 5), (2, 40)):
        random = generator(0, "cached view", pool.sample_names[row], version)
        crop = augmented(
            pool.paths[row], random, size=32, scale=0.08, resample=transform.resampling
        )
        with torch.no_grad():
            expected = tiny.module(torch.from_numpy(transform.normalized(crop))[None])[0].numpy()
        np.testing.assert_allclose(views[version, row], expected, rtol=1e-4, atol=1e-5)


def test_versions_differ_from_each_other_and_from_the_features(
    pool: Dataset, tiny: Backbone, cache: Path, views: Views
) -> None:
    plain = extract_features(pool, tiny, cache=cache).values
    every = np.stack([plain, *views])
    # A crop may happen to be the whole image, and small images have few crops.
    apart = [(a != b).any(axis=1).mean() for i, a in enumerate(every) for b in every[:i]]
    assert min(apart) > 0.95
    assert len(list((cache / "features").iterdir())) == 4


def test_what_is_cached_is_not_computed_again_and_more_versions_keep_the_first(
    pool: Dataset, tiny: Backbone, cache: Path, views: Views, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []

    def counted(path: Path, *draws: object, **options: object) -> object:
        made.append(path)
        return augmented(path, *draws, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "augmented", counted)
    assert np.array_equal(cached_views(pool, tiny, 2, cache=cache), views[:2])
    assert made == []
    assert np.array_equal(cached_views(pool, tiny, 4, cache=cache)[:3], views)
    assert len(made) == len(pool)
    cached_views(pool, tiny, 1, precision="bf16", cache=cache)
    assert len(made) == 2 * len(pool)


def test_a_killed_extraction_goes_on_where_it_stood(
    pool: Dataset, tiny: Backbone, views: Views, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []

    def killed(path: Path, *draws: object, **options: object) -> object:
        made.append(path)
        if len(made) == 100:
            raise KeyboardInterrupt
        return augmented(path, *draws, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "augmented", killed)
    with pytest.raises(KeyboardInterrupt):
        cached_views(pool, tiny, 3, cache=tmp_path)
    made.clear()
    monkeypatch.setattr("oodml.train.cached_views.augmented", lambda *a, **o: _noted(made, *a, **o))
    assert np.array_equal(cached_views(pool, tiny, 3, cache=tmp_path), views)
    assert len(made) == 2 * len(pool)  # the first version was whole


def _noted(made: list[Path], path: Path, *draws: object, **options: object) -> object:
    made.append(path)
    return augmented(path, *draws, **options)  # type: ignore[arg-type]


def test_a_version_depends_on_the_samples_name_and_on_no_other_sample(
    pool: Dataset, tiny: Backbone, views: Views, tmp_path: Path
) -> None:
    rows = np.arange(len(pool))[::-3]
    part = replace(
        pool,
        labels=pool.labels[rows],
        sample_names=tuple(pool.sample_names[row] for row in rows),
        paths=tuple(pool.paths[row] for row in rows),
        sizes=pool.sizes[rows],
    )
    np.testing.assert_allclose(
        cached_views(part, tiny, 3, cache=tmp_path), views[:, rows], rtol=1e-5, atol=1e-6
    )


def test_a_transform_without_a_training_counterpart_is_named(pool: Dataset, tiny: Backbone) -> None:
    with pytest.raises(DataError, match="tiny has no training counterpart"):
        cached_views(pool, replace(tiny, transform=lambda image: image), 2)


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
    equal = build_ladder(features, rungs=2, equal_size=True, min_classes=3)
    split = next(split for split in equal.rungs if split.images_kept)
    left = marked.taking_part(split)
    assert len(left.features) < len(features) and left.views is not None
    assert np.array_equal(left.views, left.features.values + 1000 * np.arange(1, 4)[:, None, None])
    spec = one(equal, "margin", cached_views=3)
    classes = split.train_classes
    own = samples_of(spec, classes, left)
    index = np.arange(len(own.labels))
    assert torch.equal(own.training(index, Draw(0, 0)) % 1000, own.evaluation(index))
    assert not torch.equal(own.training(index, Draw(0, 0)), own.evaluation(index))
    with pytest.raises(DataError, match=r"shape \(3, 5, 1\); needed is \(versions, 67"):
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
        return train(spec, ladder_of_some.rungs[0], resources, tmp_path / str(next(places)))

    return done


def test_a_method_of_two_views_trains_on_cached_ones(
    run: Run, comparing: Callable[..., None], some: tuple[Features, Views]
) -> None:
    comparing(cached_views=2)
    record = run("of_two_views")
    assert record.spec.cached_views == 2
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
    assert one(ladder_of_some, "of_two_views").cached_views == 4
    assert one(ladder_of_some, "of_two_views", cached_views=7).cached_views == 7
    assert one(ladder_of_some, "of_two_views", train="all").cached_views == 0
    assert one(ladder_of_some, "frozen", cached_views=7).cached_views == 0
    assert one(ladder_of_some, "pca_whitening", cached_views=7).cached_views == 0
    specs = plan(ladder_of_some, ["margin", "of_two_views"], [0])
    assert views_wanted(specs) == 4 and views_wanted(specs[:1]) == 0
    with pytest.raises(UsageError, match="--cached-views is for heads on cached features"):
        one(ladder_of_some, "margin", train="all", cached_views=2)


def test_a_method_of_two_views_never_trains_on_one(
    run: Run, comparing: Callable[..., None], some: tuple[Features, Views]
) -> None:
    comparing(cached_views=4)
    for few in (0, 1):
        with pytest.raises(UsageError, match=f"--cached-views {few}: of_two_views compares two"):
            run("of_two_views", cached_views=few)
    for given, number in ((None, 0), (some[1], 3)):
        with pytest.raises(DataError, match=f"of_two_views trains on 4 .* and {number} are at"):
            run("of_two_views", given)
    comparing()  # one that prescribes nothing, as a plug-in might
    with pytest.raises(UsageError, match="compares 2 augmented views"):
        run("of_two_views")
