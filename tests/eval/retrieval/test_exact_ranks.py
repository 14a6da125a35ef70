import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from oodml.eval.retrieval import exact_ranks as ranks
from oodml.eval.retrieval.exact_ranks import Depth, Samples, positive_ranks, thread_pool
from oodml.eval.retrieval.nearest import normalized
from oodml.eval.retrieval.rank_counts import similarity_margin

NAMES = ("before", "hits_before", "size", "hits")


def data(count, dimension=16, classes=20, seed=0, spread=1.0, kinds=0):
    """Vectors around one centre: the smaller the spread, the nearer the ties of float32."""
    draw = torch.Generator().manual_seed(seed)
    vectors = torch.randn(1, dimension, generator=draw)
    vectors = vectors + spread * torch.randn(count, dimension, generator=draw)
    if kinds:
        vectors = vectors[torch.randint(kinds, (count,), generator=draw)]
    # Classes of very different sizes, singletons among them.
    labels = (torch.rand(count, generator=draw) ** 3 * classes).long()
    labels[:3] = torch.arange(classes, classes + 3)
    return Samples(vectors, labels)


def everything(samples):
    deep = torch.full_like(samples.labels, 1 << 40)
    return Depth(deep, deep)


def counted(query, gallery=None, **settings):
    """Per query the sorted places of its positives, as tuples, nearest first."""
    found = {}
    settings.setdefault("depth", everything(query))
    for ranking in positive_ranks(query, gallery, **settings):
        rows = torch.stack([getattr(ranking, name) for name in NAMES], 2)
        for index, places in zip(ranking.query.tolist(), rows, strict=True):
            found[index] = [tuple(place) for place in places.tolist() if np.isfinite(place[0])]
    return found


def brute_force(query, gallery=None):
    """The same by comparing all pairs of true similarities."""
    other = gallery or query
    rows, columns = normalized(query.vectors).double(), normalized(other.vectors).double()
    similarity = (rows @ columns.T).float().numpy()
    found = {}
    for index, own in enumerate(query.labels.tolist()):
        others = np.ones(len(other.labels), bool)
        others[index] = gallery is not None
        values, same = similarity[index][others], other.labels.numpy()[others] == own
        positives = np.sort(values[same])[::-1]
        if len(positives):
            found[index] = [
                (
                    (values > value).sum(),
                    (positives > value).sum(),
                    (values == value).sum(),
                    (positives == value).sum(),
                )
                for value in positives
            ]
    return found


# From well apart through nearer than float32 sums can tell to exact duplicates.
KINDS = [{}, {"spread": 1e-3}, {"spread": 1e-5, "dimension": 200}, {"kinds": 9}]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [4, 40])
def test_places_equal_the_comparison_of_all_pairs(kind, classes):
    query = data(180, classes=classes, **kind)
    assert counted(query) == brute_force(query)


@pytest.mark.parametrize("kind", KINDS)
def test_places_in_a_gallery_equal_the_comparison_of_all_pairs(kind):
    query, gallery = data(60, classes=12, **kind), data(150, classes=9, seed=1, **kind)
    gallery = Samples(torch.cat((gallery.vectors[:140], query.vectors[:10])), gallery.labels)
    assert counted(query, gallery) == brute_force(query, gallery)


@pytest.mark.parametrize("kind", KINDS)
def test_places_do_not_depend_on_tiles_and_memory(kind, monkeypatch):
    query = data(140, **kind)
    monkeypatch.setattr(ranks, "_SMALLEST", 32)
    small = counted(query, memory=1)
    monkeypatch.setattr(ranks, "_LARGEST", 40)
    assert counted(query) == small
    monkeypatch.undo()
    assert counted(query) == small


def test_places_beyond_the_depth_are_infinite_and_the_others_as_before():
    query = data(200)
    whole = counted(query)
    first = torch.randint(0, 30, (200,), generator=torch.Generator().manual_seed(0))
    rest = first // 2
    cut = counted(query, depth=Depth(first, rest))
    shallow = 0
    for index, places in whole.items():
        limits = [first[index]] + [rest[index]] * (len(places) - 1)
        expected = [p for p, limit in zip(places, limits, strict=True) if p[0] < limit]
        shallow += len(places) - len(expected)
        assert cut[index] == expected
    assert shallow > 100


@pytest.mark.parametrize("dimension", [8, 512, 3000])
def test_float32_products_keep_within_the_margin(dimension):
    draw = torch.Generator().manual_seed(0)
    # All of one sign: the sums grow, and so do their errors.
    rows = normalized(torch.rand(300, dimension, generator=draw) + 1)
    error = (rows @ rows.T).double() - rows.double() @ rows.double().T
    assert 0 < error.abs().max() < similarity_margin(dimension)


@pytest.mark.parametrize("gallery", [None, data(50, seed=1)])
def test_products_are_at_full_precision_where_the_caller_allows_less(gallery, monkeypatch):
    seen, multiply = [], torch.mm

    def watched(*arguments, **settings):
        seen.append(torch.get_float32_matmul_precision())
        return multiply(*arguments, **settings)

    monkeypatch.setattr(torch, "mm", watched)
    torch.set_float32_matmul_precision("medium")
    try:
        counted(data(40), gallery)
        assert set(seen) == {"highest"}
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_no_block_is_empty():
    assert ranks._spans([2] * 128, 64, 1 << 30) == [(0, 64), (64, 128)]
    assert ranks._spans([0, 0], 64, 1 << 30) == []


def test_blocks_shrink_where_classes_are_large():
    spans = ranks._spans([0, 0, *[2] * 100, *[30_000] * 300], 64, 240 * 30_000 * 20)
    assert spans[0] == (2, 66)
    assert [stop for _, stop in spans[:-1]] == [start for start, _ in spans[1:]]
    assert spans[-1][1] == 402
    assert max(stop - start for start, stop in spans if stop > 102) == 20


CPU = torch.device("cpu")


@contextmanager
def cores(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("given", "count", "each"), [(1, 1, 1), (3, 3, 1), (17, 8, 2)])
def test_cores_are_shared_among_threads_and_given_back(given: int, count: int, each: int) -> None:
    with cores(given):
        with thread_pool(CPU) as pool:
            assert pool.count == count
            assert set(pool.map(lambda _: torch.get_num_threads(), range(20))) == {each}
        assert torch.get_num_threads() == given
        seen: list[int] = []
        later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        later.start()
        later.join()
        assert seen == [given]


def test_a_gpu_gets_one_thread_that_keeps_all_cores() -> None:
    with cores(3), thread_pool(torch.device("meta")) as pool:
        assert pool.count == 1
        assert pool.map(lambda _: torch.get_num_threads(), range(2)) == [3, 3]


def test_work_is_done_beside_each_other_in_full_precision_and_in_order() -> None:
    met = threading.Barrier(2, timeout=60)

    def work(number: int) -> tuple[int, str]:
        met.wait()
        return number, torch.get_float32_matmul_precision()

    torch.set_float32_matmul_precision("medium")
    try:
        with cores(2), thread_pool(CPU) as pool:
            assert pool.map(work, range(4)) == [(number, "highest") for number in range(4)]
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("gallery", [False, True])
def test_places_do_not_depend_on_the_number_of_threads(
    gallery: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 70, (400,), generator=draw)
    vectors = torch.randn(70, 24, generator=draw)[labels]
    samples = Samples(vectors + 2 * torch.randn(400, 24, generator=draw), labels)
    other = Samples(samples.vectors.flip(0), labels.flip(0)) if gallery else None
    # Narrow tiles, so that many threads count for one block at a time.
    monkeypatch.setattr(ranks, "_LARGEST", 32)
    depth = torch.full((400,), 40)
    found = []
    for count in (1, 2, 5):
        with cores(count):
            rankings = positive_ranks(samples, other, depth=Depth(depth, depth))
            found.append([(r.query.tolist(), r.before.tolist(), r.size.tolist()) for r in rankings])
    assert found[0] == found[1] == found[2]
