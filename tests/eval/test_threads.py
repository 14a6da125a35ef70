"""Tiles side by side: in order, with the same places on any number of threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from oodml.eval.retrieval import exact_ranks as ranks
from oodml.eval.retrieval.exact_ranks import Depth, positive_ranks
from oodml.eval.retrieval.threads import threads
from oodml.eval.retrieval.tiles import Samples

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
        with threads(CPU) as pool:
            assert pool.count == count
            assert set(pool.map(lambda _: torch.get_num_threads(), range(20))) == {each}
        assert torch.get_num_threads() == given
        seen: list[int] = []
        later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        later.start()
        later.join()
        assert seen == [given]


def test_a_gpu_gets_one_thread_that_keeps_all_cores() -> None:
    with cores(3), threads(torch.device("meta")) as pool:
        assert pool.count == 1
        assert pool.map(lambda _: torch.get_num_threads(), range(2)) == [3, 3]


def test_work_is_done_beside_each_other_in_full_precision_and_in_order() -> None:
    met = threading.Barrier(2, timeout=30)

    def work(number: int) -> tuple[int, str]:
        met.wait()
        return number, torch.get_float32_matmul_precision()

    torch.set_float32_matmul_precision("medium")
    try:
        with cores(2), threads(CPU) as pool:
            assert pool.map(work, range(4)) == [(number, "highest") for number in range(4)]
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("gallery", [False, True])
def test_places_do_not_depend_on_the_number_of_threads(
    gallery: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 150, (900,), generator=draw)
    vectors = torch.randn(150, 24, generator=draw)[labels]
    samples = Samples(vectors + 2 * torch.randn(900, 24, generator=draw), labels)
    other = Samples(samples.vectors.flip(0), labels.flip(0)) if gallery else None
    # Narrow tiles, so that many threads count for one block at a time.
    monkeypatch.setattr(ranks, "_LARGEST", 32)
    depth = torch.full((900,), 40)
    found = []
    for count in (1, 2, 5):
        with cores(count):
            rankings = positive_ranks(samples, other, depth=Depth(depth, depth))
            found.append([(r.query.tolist(), r.before.tolist(), r.size.tolist()) for r in rankings])
    assert found[0] == found[1] == found[2]
