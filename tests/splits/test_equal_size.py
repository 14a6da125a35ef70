"""The gallery that is evaluated: which classes and images it holds, row by row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import make_features

from oodml.errors import UsageError
from oodml.features.features import Features
from oodml.seeding import generator
from oodml.splits.equal_size import equal_gallery, gallery_classes_of, gallery_of, subsample
from oodml.splits.ladder import Ladder
from oodml.splits.split import Split


def named() -> Features:
    features = make_features(classes=10, per_class=6, dimension=3)
    return replace(features, sample_names=tuple(f"image {row}" for row in range(len(features))))


SPLIT = Split(
    tuple(f"class {i:03d}" for i in range(4)), tuple(f"class {i:03d}" for i in range(4, 10))
)


def test_no_size_means_everything_as_it_is() -> None:
    features = named()
    assert gallery_of(features, SPLIT, 0, 0, seed=0) is features


def test_a_smaller_gallery_keeps_every_rows_class_values_and_name() -> None:
    features = named()
    gallery = gallery_of(features, SPLIT, 4, 15, seed=3)
    assert gallery.class_names == gallery_classes_of(SPLIT, 4, 3)
    assert len(gallery) == 15 and np.bincount(gallery.labels).min() >= 2
    rows = [int(name.split()[1]) for name in gallery.sample_names]
    assert (gallery.values == features.values[rows]).all()
    owners = [features.class_names[features.labels[row]] for row in rows]
    assert owners == [gallery.class_names[label] for label in gallery.labels]
    nameless = gallery_of(replace(features, sample_names=()), SPLIT, 4, 15, seed=3)
    assert nameless.sample_names == () and (nameless.values == gallery.values).all()


def test_images_alone_or_classes_alone_may_be_cut() -> None:
    features = named()
    fewer_images = gallery_of(features, SPLIT, 0, 20, seed=0)
    assert fewer_images.class_names == SPLIT.test_classes and len(fewer_images) == 20
    fewer_classes = gallery_of(features, SPLIT, 3, 0, seed=0)
    assert len(fewer_classes.class_names) == 3 and len(fewer_classes) == 18


def test_a_draw_depends_on_seed_and_split_alone() -> None:
    features = named()
    other = Split(SPLIT.train_classes[:3], SPLIT.test_classes)
    draws = [
        gallery_of(features, split, 6, 20, seed).sample_names
        for split, seed in ((SPLIT, 0), (SPLIT, 0), (SPLIT, 1), (other, 0))
    ]
    assert draws[0] == draws[1] and len(set(draws)) == 3


def test_a_subsample_takes_the_first_two_of_each_class_then_the_others_in_order() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(5), 40))
    order = generator(4, "samples", "why").permutation(200).tolist()
    first = [[row for row in order if labels[row] == label][:2] for label in range(5)]
    needed = sorted(row for rows in first for row in rows)
    others = [row for row in order if row not in needed]
    for count in (10, 11, 37, 200):
        expected = sorted([*needed, *others][:count])
        assert subsample(labels, count, 4, "why").tolist() == expected


def test_gallery_classes_are_nested_seeded_and_as_many_as_asked_for(ladder: Ladder) -> None:
    split = ladder.rungs[0]
    three, five = gallery_classes_of(split, 3, 7), gallery_classes_of(split, 5, 7)
    assert set(three) < set(five) < set(split.test_classes)
    assert gallery_classes_of(split, 5, 7) == five != gallery_classes_of(split, 5, 8)
    assert gallery_classes_of(split, 0, 7) == split.test_classes
    with pytest.raises(UsageError, match="12 test classes"):
        gallery_classes_of(split, 99, 0)


def test_a_subsample_keeps_two_of_every_class() -> None:
    labels = generator(0, "labels").integers(0, 6, 60)
    labels[0] = 6  # a class of one
    rows = subsample(labels, 20, 1)
    assert len(rows) == 20 and (np.diff(rows) > 0).all()
    counts = np.bincount(labels[rows], minlength=7)
    assert counts[:6].min() >= 2 and counts[6] == 1
    assert np.array_equal(subsample(labels, 0, 1), np.arange(60))
    for count in (5, 61):
        with pytest.raises(UsageError, match=r"13 .two a class. to 60"):
            subsample(labels, count, 1)


def test_the_equal_gallery_fits_every_rung(ladder: Ladder) -> None:
    fewest = min(len(rung.test_classes) for rung in ladder.rungs)
    assert equal_gallery(ladder, range(2)) == (fewest, fewest * 8)
    rare = ladder.rungs[-1].test_classes[0]
    uneven = replace(ladder, class_sizes={**ladder.class_sizes, rare: 3})
    held = [
        sum(uneven.class_sizes[name] for name in gallery_classes_of(rung, fewest, seed))
        for rung in ladder.rungs
        for seed in range(3)
    ]
    assert equal_gallery(uneven, range(3)) == (fewest, min(held)) and min(held) < fewest * 8
    unknown = replace(ladder, class_sizes=dict.fromkeys(ladder.class_sizes, 0))
    with pytest.raises(UsageError, match="how many images"):
        equal_gallery(unknown, [0])
