"""Training inputs: the same whatever thread or process makes them, and always in order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oodml.data import load_dataset
from oodml.data.dataset import Dataset
from oodml.errors import DataError, UsageError
from oodml.features.preprocessing import Preprocessing
from oodml.train.data import Draw, FeatureSamples, ImageSamples, Indices, augmented, prefetched

PREPROCESSING = Preprocessing(16, 18, "bilinear", True, (120.0,) * 3, (60.0,) * 3)
INDEX = np.array([5, 0, 7, 7, 20, 33])


@pytest.fixture(scope="module")
def dataset(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The drawings, every second one as a JPEG."""
    from PIL import Image

    root = tmp_path_factory.mktemp("mixed")
    for number, path in enumerate(sorted(image_folder.rglob("*.png"))):
        target = root / path.parent.name / path.name
        target.parent.mkdir(exist_ok=True)
        Image.open(path).save(target.with_suffix(".jpg" if number % 2 else ".png"))
    return load_dataset(root)


def samples(dataset: Dataset, **options: float) -> ImageSamples:
    return ImageSamples(dataset.paths, dataset.labels, PREPROCESSING, **options)


def test_augmentation_depends_on_no_thread(dataset: Dataset) -> None:
    one, eight = (samples(dataset, threads=number) for number in (1, 8))
    for step in range(3):
        inputs = one.training(INDEX, Draw(0, step))
        assert inputs.shape == (6, 3, 16, 16) and inputs.dtype == torch.float32
        assert torch.equal(inputs, eight.training(INDEX, Draw(0, step)))


def test_a_divided_batch_equals_the_whole(dataset: Dataset) -> None:
    each = samples(dataset)
    whole = each.training(INDEX, Draw(3, 8))
    parts = [each.training(INDEX[at : at + 2], Draw(3, 8, first=at)) for at in (0, 2, 4)]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(each.training(INDEX[2:4], Draw(3, 8)), whole[2:4])


def test_every_sample_of_every_draw_is_new(dataset: Dataset) -> None:
    each = samples(dataset)
    draws = [Draw(0, 0), Draw(0, 1), Draw(1, 0), Draw(0, 0, view=1)]
    batches = [each.training(INDEX, draw) for draw in draws]
    images = torch.cat([batch[2:4] for batch in batches])  # the same image, twice a batch
    assert len({image.numpy().tobytes() for image in images}) == 8
    assert torch.equal(each.training(INDEX, Draw(0, 0)), batches[0])


def test_the_share_of_the_area_that_is_kept(dataset: Dataset) -> None:
    whole = samples(dataset, crop_scale=1.0).training(INDEX, Draw(0, 0))
    part = samples(dataset, crop_scale=0.08).training(INDEX, Draw(0, 0))
    assert not torch.equal(whole, part)
    with pytest.raises(UsageError, match="crop_scale=0"):
        samples(dataset, crop_scale=0.0)


def test_evaluation_sees_what_feature_extraction_sees(dataset: Dataset) -> None:
    seen = samples(dataset).evaluation(INDEX)
    expected = torch.stack([PREPROCESSING(dataset[int(row)][0]) for row in INDEX])
    assert torch.equal(seen, expected)


def test_a_mirrored_image_mirrored_again_is_the_image(dataset: Dataset) -> None:
    each = samples(dataset)
    plain, mirrored = each.evaluation(INDEX), each.evaluation(INDEX, flip=True)
    assert torch.equal(mirrored.flip(-1), plain)
    assert not torch.equal(mirrored, plain)


def of_features() -> FeatureSamples:
    values = np.random.default_rng(0).standard_normal((3, 50, 4)).astype(np.float32)
    return FeatureSamples(values[0], np.arange(50), values[1:])


@pytest.mark.parametrize("kind", ["images", "features"])
def test_what_is_taken_are_these_samples_and_no_others(kind: str, dataset: Dataset) -> None:
    rows = np.array([40, 3, 11])
    whole = samples(dataset) if kind == "images" else of_features()
    some = whole.take(rows)
    index, draw = np.array([2, 0]), Draw(0, 0)
    assert torch.equal(some.labels, whole.labels[rows])
    assert torch.equal(some.evaluation(index), whole.evaluation(rows[index]))
    assert torch.equal(some.training(index, draw), whole.training(rows[index], draw))
    for read in (some.evaluation, lambda beyond: some.training(beyond, draw)):
        with pytest.raises(IndexError):
            read(np.array([3]))


def requests(count: int, seen: list[int]) -> Iterator[tuple[Indices, Draw]]:
    for step in range(count):
        seen.append(step)
        yield np.array([step, step + 1]), Draw(0, step)


@pytest.mark.parametrize("depth", [0, 1, 2, 9])
def test_prefetched_batches_come_in_order_and_not_too_early(dataset: Dataset, depth: int) -> None:
    each, seen = samples(dataset), list[int]()
    for step, inputs in enumerate(prefetched(requests(5, seen), each, depth)):
        assert torch.equal(inputs, each.training(np.array([step, step + 1]), Draw(0, step)))
        assert len(seen) == min(step + depth + 1, 5)
    assert step == 4


def test_features_are_prefetched_too() -> None:
    values = np.arange(12, dtype=np.float32).reshape(6, 2)
    each = FeatureSamples(values, np.arange(6))
    for step, inputs in enumerate(prefetched(requests(4, []), each)):
        assert np.array_equal(inputs, values[step : step + 2])
    assert torch.equal(each.evaluation(np.array([1])), each.training(np.array([1]), Draw(0, 0)))
    with pytest.raises(UsageError, match="flip"):
        each.evaluation(np.array([1]), flip=True)


def test_a_broken_image_ends_the_batch_that_holds_it(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_text("hello")
    paths = (*dataset.paths[:3], tmp_path / "broken.jpg", *dataset.paths[4:])
    broken = Dataset(**{**vars(dataset), "paths": paths})
    batches = prefetched(requests(5, []), samples(broken))
    assert next(batches).shape == (2, 3, 16, 16)
    next(batches)
    with pytest.raises(DataError, match=r"broken\.jpg"):
        next(batches)
    with pytest.raises(DataError, match=r"broken\.jpg"):
        samples(broken).evaluation(np.array([3]))


def test_a_reader_that_stops_leaves_no_work(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []

    def counted(path: Path, *draws: Any, **options: Any) -> Any:
        made.append(path)
        return augmented(path, *draws, **options)

    monkeypatch.setattr("oodml.train.data.augmented", counted)
    each = samples(dataset, threads=1)
    index = np.resize(np.arange(70), 300)
    batches = prefetched(((index, Draw(0, step)) for step in range(3)), each, depth=2)
    next(batches)
    batches.close()
    each._pool.submit(lambda: None).result()  # comes after whatever was not dropped
    assert 300 <= len(made) < 900
