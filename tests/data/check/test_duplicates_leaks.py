import numpy as np

from oodml.data.check.duplicates import Duplicates, NearPairs, leaks


def rows(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


# Pictures: 0 twice, 1 near 2, 2 near 3, 4 alone; image 6 is broken.
DUPLICATES = Duplicates(
    rows(0, 0, 1, 2, 3, 4, -1), NearPairs(rows(1, 2), rows(2, 3), rows(5, 7), 8), 8
)
NAMES = [f"image {number}" for number in range(7)]


def test_test_images_are_counted_once_and_exact_copies_first() -> None:
    (leak,) = leaks(DUPLICATES, NAMES, [(rows(0, 2, 6), rows(1, 3, 4, 5))])
    assert (leak.rung, leak.test_images, leak.exact, leak.near) == (0, 4, 1, 1)
    assert leak.examples == (("image 1", "image 0"), ("image 3", "image 2"))


def test_a_chain_is_no_leak_and_direction_does_not_matter() -> None:
    # Image 4 is near 3 and 3 near 2, but 4 is not near 2.
    (chain, back) = leaks(DUPLICATES, NAMES, [(rows(2), rows(4)), (rows(4), rows(3))])
    assert (chain.exact, chain.near) == (0, 0)
    assert (back.exact, back.near) == (0, 1)
    assert (chain.rung, back.rung) == (0, 1)


def test_broken_images_leak_nothing() -> None:
    broken = Duplicates(rows(-1, -1), NearPairs(rows(), rows(), rows(), 8), 8)
    (leak,) = leaks(broken, NAMES, [(rows(0), rows(1))])
    assert (leak.exact, leak.near, leak.examples) == (0, 0, ())


def test_examples_are_the_first_few() -> None:
    many = Duplicates(np.zeros(20, np.int64), NearPairs(rows(), rows(), rows(), 8), 8)
    names = [str(number) for number in range(20)]
    (leak,) = leaks(many, names, [(rows(0), np.arange(1, 20))], examples=3)
    assert (leak.exact, leak.examples) == (19, (("1", "0"), ("2", "0"), ("3", "0")))
