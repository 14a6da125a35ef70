"""Cached views: made once, the same for everybody, and none of them twice in a batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from oodml.data import load_dataset
from oodml.data.dataset import Dataset
from oodml.errors import DataError
from oodml.features.backbones.registry import Backbone, load_backbone
from oodml.features.extraction import extract_features
from oodml.seeding import generator
from oodml.train import cached_views as module
from oodml.train import data as samples
from oodml.train.cached_views import Views, cached_views
from oodml.train.data import Draw, augmented

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


def test_the_network_is_prepared_once_for_all_versions(
    pool: Dataset, tiny: Backbone, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "oodml")
    for _ in range(2):  # the second time everything is cached
        cached_views(pool, tiny, 3, cache=tmp_path)
    assert len([text for text in caplog.messages if "channels last" in text]) == 1


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
    with pytest.raises(DataError, match="tiny"):
        cached_views(pool, replace(tiny, transform=lambda image: image), 2)
