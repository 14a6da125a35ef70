import numpy as np
import numpy.typing as npt
import pytest

from oodml.data.check.duplicates import near_pairs

Bytes = npt.NDArray[np.uint8]


def planted(count: int = 600, families: int = 20) -> tuple[Bytes, Bytes]:
    """Random hashes of which some are others with a few bits turned."""
    random = np.random.default_rng(0)
    bits = random.integers(0, 2, (count, 256), dtype=np.uint8)
    for row in range(200, 400):
        bits[row] = bits[row % families]
        turned = random.choice(256, random.integers(0, 22), replace=False)
        bits[row, turned] ^= 1
    return np.packbits(bits, axis=1), np.zeros((count, 192), np.uint8)


def brute_force(hashes: Bytes, radius: int) -> list[tuple[int, int, int]]:
    ones = np.unpackbits(hashes, axis=1).astype(np.float32)  # in floats, whose product is quick
    apart = (ones @ (1 - ones.T) + (1 - ones) @ ones.T).astype(np.int64)
    first, second = np.nonzero(np.triu(apart <= radius, 1))
    return [(int(a), int(b), int(apart[a, b])) for a, b in zip(first, second, strict=True)]


@pytest.mark.parametrize("radius", [0, 1, 8, 15, 16, 40])
def test_the_search_finds_what_comparing_all_pairs_finds(radius: int) -> None:
    hashes, colours = planted()
    pairs = near_pairs(hashes, colours, radius)
    expected = brute_force(hashes, radius)
    assert list(zip(pairs.first, pairs.second, pairs.distance, strict=True)) == expected
    assert pairs.radius == radius
    assert len(expected) > 3 * radius


def test_pictures_of_other_colours_are_no_pair() -> None:
    hashes = np.zeros((3, 32), np.uint8)
    colours = np.zeros((3, 192), np.uint8)
    colours[1], colours[2] = 6, 13
    pairs = near_pairs(hashes, colours)
    assert list(zip(pairs.first, pairs.second, strict=True)) == [(0, 1)]


def test_too_many_pairs_shorten_the_radius_until_they_fit() -> None:
    hashes, colours = planted()
    within = {radius: len(brute_force(hashes, radius)) for radius in (16, 8, 4)}
    assert within[16] > within[8] > within[4] > 0
    pairs = near_pairs(hashes, colours, 16, most=within[8])
    assert (pairs.radius, len(pairs.first)) == (8, within[8])
    pairs = near_pairs(hashes, colours, 16, most=within[8] - 1)
    assert (pairs.radius, len(pairs.first)) == (4, within[4])


def test_equal_hashes_without_end_are_given_up() -> None:
    pairs = near_pairs(np.zeros((700, 32), np.uint8), np.zeros((700, 192), np.uint8), most=1000)
    assert (pairs.radius, len(pairs.first)) == (-1, 0)


def test_no_hashes_have_no_pairs() -> None:
    assert len(near_pairs(np.zeros((0, 32), np.uint8), np.zeros((0, 192), np.uint8)).first) == 0
