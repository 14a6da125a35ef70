"""Tasks side by side: in order, on one BLAS thread each, with the same bits on any number."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from oodml.errors import DataError
from oodml.features.features import Features, FeatureSource
from oodml.fid.class_moments import ClassMoments
from oodml.fid.null import class_null, split_distance
from oodml.parallel import each, each_ahead, in_threads, side_by_side


def blas_threads() -> set[int]:
    # Those of NumPy and SciPy; a library on OpenMP counts for each thread of its own.
    return {
        entry["num_threads"]
        for entry in threadpool_info()
        if entry["user_api"] == "blas" and entry.get("threading_layer") != "openmp"
    }


def test_blas_keeps_to_one_thread_within_and_gets_its_threads_back():
    with threadpool_limits(limits=2, user_api="blas"):
        assert blas_threads() == {2}
        with side_by_side(3), side_by_side(1):
            assert blas_threads() == {1}
        assert blas_threads() == {2}
        with pytest.raises(DataError), side_by_side(2):
            raise DataError("an error inside")
        assert blas_threads() == {2}


@pytest.mark.parametrize("workers", [None, 1, 3])
def test_each_keeps_the_order_and_hands_errors_on(workers):
    def unless_seven(value: int) -> int:
        if value == 7:
            raise DataError("seven")
        return value * value

    with side_by_side(workers):
        assert each(unless_seven, range(7)) == [0, 1, 4, 9, 16, 25, 36]
        with pytest.raises(DataError, match="seven"):
            each(unless_seven, range(8))
    assert each(unless_seven, range(3)) == [0, 1, 4]


def test_tasks_run_beside_each_other():
    met = threading.Barrier(2, timeout=60)
    with side_by_side(2):
        assert sorted(each(lambda _: met.wait(), range(2))) == [0, 1]


def test_two_threads_at_once_give_blas_its_threads_back_when_both_have_left():
    entered, leave = threading.Event(), threading.Event()
    seen = []

    def first():
        with side_by_side(1):
            entered.set()
            leave.wait(60)

    with threadpool_limits(limits=2, user_api="blas"):
        thread = threading.Thread(target=first)
        thread.start()
        assert entered.wait(60)
        with side_by_side(1):
            leave.set()
            thread.join()
            seen.append(blas_threads())
        assert seen == [{1}], "the first to leave must not lift the limit of the second"
        assert blas_threads() == {2}


def test_a_task_may_use_tasks_of_its_own():
    with side_by_side(2):
        assert each(lambda n: sum(each(lambda m: m * n, range(3))), range(4)) == [0, 3, 6, 9]


def test_results_in_threads_keep_their_order_and_are_computed_a_few_ahead():
    begun, release = [], threading.Event()

    def work(number: int) -> int:
        begun.append(number)
        assert number == 0 or release.wait(60)
        return -number

    results = in_threads(work, range(50), threads=2, ahead=3)
    assert next(results) == 0
    release.set()
    assert next(results) == -1 and max(begun) <= 4
    assert list(results) == [-number for number in range(2, 50)]


def test_an_error_in_a_thread_comes_at_its_place_and_ends_the_rest():
    results = in_threads(lambda number: 6 // (3 - number), range(9), threads=2, ahead=2)
    assert [next(results) for _ in range(3)] == [2, 3, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []


def test_a_null_has_the_same_bits_on_any_number_of_threads_and_workers():
    dimension = 520
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(12), 1200 // 12)
    values = random.standard_normal((12, dimension))[labels]
    values += random.standard_normal(values.shape)
    source = FeatureSource("made", "0" * 16, "none", "0" * 64, "none", "fp32")
    names = tuple(f"class {i:02d}" for i in range(12))
    statistics = ClassMoments.from_features(Features(values, labels, names, source))
    assert statistics.size(range(6)) > dimension
    found = set()
    for threads, workers in ((1, 1), (2, 1), (1, 3), (2, 2)):
        with threadpool_limits(limits=threads, user_api="blas"), side_by_side(workers):
            distance = split_distance(statistics, range(6), range(6, 12))
            found.add(class_null(range(6), range(6, 12), distance, 3, 0))
    assert len(found) == 1


def test_work_ahead_keeps_the_order_and_is_discarded_when_closed() -> None:
    begun: list[int] = []
    for workers in (1, 3):
        with side_by_side(workers):
            assert list(each_ahead(begun.append, range(20))) == list(range(20))
            assert sorted(begun) == list(range(20))
            begun.clear()
            taken = each_ahead(begun.append, range(20))
            assert next(taken) == 0
            taken.close()
        # Nothing that was begun outlives the context: one for each worker, and the one taken.
        assert len(begun) <= (workers + 1 if workers > 1 else 1)
        begun.clear()
    assert next(each_ahead(begun.append, range(20))) == 0 and begun == [0]
