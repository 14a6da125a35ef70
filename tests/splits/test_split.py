from __future__ import annotations

import random

import pytest

from oodml.errors import DataError, UsageError
from oodml.splits.split import Split, random_split

NAMES = [f"c{i}" for i in range(10)]


def test_a_split_and_its_permutation_share_one_id() -> None:
    split = Split(("b", "a"), ("d", "c"))
    assert split.id == Split(("a", "b"), ("c", "d")).id
    assert split.train_classes == ("a", "b")
    assert split.id != Split(("c", "d"), ("a", "b")).id


@pytest.mark.parametrize(
    ("train", "test", "words"),
    [
        ((), ("a",), "train"),
        (("a",), (), "test"),
        (("a", "b", "a"), ("c",), "train.*'a'"),
        (("a",), ("c", "c", "b", "b"), "test.*'b', 'c'"),
        (tuple("abcdef"), tuple("bcdefg"), "^5 .*'b', 'c', 'd' and 2 more"),
        (tuple("abc"), tuple("bca"), "^3 .*'a', 'b', 'c'[.]$"),
    ],
)
def test_a_split_says_which_side_is_wrong(
    train: tuple[str, ...], test: tuple[str, ...], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        Split(train, test)


def test_a_random_split_depends_on_the_seed_and_the_names_only() -> None:
    split = random_split(NAMES, seed=3)
    random.seed(99)
    assert random_split(NAMES[::-1], seed=3) == split
    assert random_split(NAMES, seed=4) != split
    assert sorted(split.train_classes + split.test_classes) == NAMES
    assert len(random_split(NAMES, train_fraction=0.3).train_classes) == 3


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 0.01, 0.99, float("nan")])
def test_an_impossible_fraction_is_refused(fraction: float) -> None:
    with pytest.raises(UsageError):
        random_split(NAMES, train_fraction=fraction)


def test_too_few_classes_to_split_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 4"):
        random_split(["a", "b", "c"])


def test_a_split_comes_back_from_json_and_a_changed_one_does_not() -> None:
    record = Split(("a", "b"), ("c",)).to_json()
    assert Split.from_json(record) == Split(("a", "b"), ("c",))
    for changed in ({"test_classes": ["d"]}, {"id": None}, {"id": "0" * 12}):
        with pytest.raises(DataError, match="changed by hand"):
            Split.from_json({**record, **changed})
