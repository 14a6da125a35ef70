"""Trials: deterministic, resumable, and independent of the number of workers."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import oodml.tune.search as trials_module
from oodml.errors import DataError, UsageError
from oodml.features.features import Features
from oodml.launch import GridOutcome, run_grid
from oodml.runs.record import RunRecord
from oodml.runs.spec import RunSpec
from oodml.runs.store import Store
from oodml.splits.ladder import Ladder
from oodml.train.build import Resources
from oodml.train.plan import plan
from oodml.tune import Choices, Range, Search, Tuned, default_space, tune

QUICK: dict[str, Any] = {"steps": 4, "batch_size": 24, "embedding_dim": 4}
SPACE = {"beta": Range(0.3, 4.8), "per_class": Choices((True, False))}


def searched(ladder: Ladder, space: Any = SPACE, **settings: Any) -> Search:
    (spec,) = plan(ladder, ["margin"], [0], rungs=[0], **{**QUICK, **settings})
    return Search(spec, dict(space))


def settings(tuned: list[Tuned]) -> list[list[tuple[str, float | None]]]:
    return [[(trial.spec.id, trial.value) for trial in each.trials] for each in tuned]


Judge = Callable[[RunSpec], float | None]


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Callable[[Judge], list[list[str]]]:
    """Runs whose value is a formula of their setting (None fails); returns the calls' run ids."""

    def install(value: Judge) -> list[list[str]]:
        calls: list[list[str]] = []

        def grid(specs: Any, ladder: Any, resources: Any, store: Store, **_: Any) -> GridOutcome:
            calls.append([spec.id for spec in specs])
            failed = []
            for spec in specs:
                found = value(spec)
                if found is None:
                    failed.append(spec.id)
                    continue
                metrics = {"mean_average_precision_at_r": found}
                store.finish(RunRecord(spec, {}, metrics, {}, {}, 0.0))
            return GridOutcome(len(specs) - len(failed), tuple(failed), ())

        monkeypatch.setattr(trials_module, "run_grid", grid)
        return calls

    return install


def beta(spec: RunSpec) -> float:
    return float(spec.method.hyperparameters.get("beta", 1.2))


def test_trial_0_is_the_setting_itself_and_the_best_is_the_highest(
    features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    search = searched(ladder)
    (tuned,) = tune([search], ladder, Resources(features), Store(tmp_path), trials=5)
    assert tuned.default.spec == search.spec and search.spec.data.measured_on == "validation"
    assert [trial.number for trial in tuned.trials] == [0, 1, 2, 3, 4]
    values = [trial.value for trial in tuned.trials]
    assert tuned.best is not None and tuned.best.value == max(v for v in values if v is not None)
    store = Store(tmp_path)
    for trial in tuned.trials:
        record = store.record(trial.spec.id)
        assert record is not None
        assert record.metrics["mean_average_precision_at_r"] == trial.value
        assert 0.3 <= beta(trial.spec) <= 4.8
        assert trial.spec.with_settings(hyperparameters={}) == search.spec


def test_equal_values_leave_the_default(
    judged: Callable[[Judge], Any], features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    judged(lambda spec: 0.5)
    (tuned,) = tune([searched(ladder)], ladder, Resources(features), Store(tmp_path), trials=6)
    assert tuned.best == tuned.default


def test_a_search_that_was_stopped_ends_like_one_that_was_not(
    features: Features, ladder: Ladder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def search(directory: str, trials: int = 7) -> list[Tuned]:
        store = Store(tmp_path / directory)
        return tune([searched(ladder)], ladder, Resources(features), store, trials=trials)

    whole = settings(search("whole"))
    done: list[str] = []

    def dying(specs: Any, *rest: Any, **options: Any) -> GridOutcome:
        if len(done) + len(specs) > 6:
            run_grid(specs[:2], *rest, **options)
            raise KeyboardInterrupt
        done.extend(spec.id for spec in specs)
        return run_grid(specs, *rest, **options)

    with monkeypatch.context() as patched:
        patched.setattr(trials_module, "run_grid", dying)
        with pytest.raises(KeyboardInterrupt):
            search("stopped")
    runs = tmp_path / "stopped" / "runs"
    before = {path: path.stat().st_mtime_ns for path in runs.glob("*/run.json")}
    assert len(before) == 6
    assert settings(search("stopped")) == whole
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert [each[:6] for each in whole] == settings(search("whole", trials=6))


def test_proposals_depend_on_the_seed_and_on_the_values_told(
    judged: Callable[[Judge], Any], features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    def specs(name: str, value: Judge, seed: int = 0) -> list[str]:
        judged(value)
        search, store = searched(ladder), Store(tmp_path / name)
        (tuned,) = tune([search], ladder, Resources(features), store, trials=8, seed=seed)
        return [trial.spec.id for trial in tuned.trials]

    rising = specs("rising", beta)
    assert specs("again", beta) == rising
    falling = specs("falling", lambda spec: -beta(spec))
    assert falling[:4] == rising[:4] and falling[4:] != rising[4:]
    assert specs("seed", beta, seed=1)[1:4] != rising[1:4]


def test_a_search_finds_the_top_of_a_simple_hill(
    judged: Callable[[Judge], Any], features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    judged(lambda spec: -abs(beta(spec) - 3.0))
    search = searched(ladder, {"beta": Range(0.3, 4.8)})
    (tuned,) = tune([search], ladder, Resources(features), Store(tmp_path), trials=32)
    assert tuned.best is not None and abs(beta(tuned.best.spec) - 3) < 0.3
    late = [abs(beta(trial.spec) - 3) for trial in tuned.trials[-12:]]
    # Of settings drawn at random a quarter lies within 1.
    assert sorted(late)[6] < 1


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_as_many_are_asked_for_at_once_whatever_the_workers(
    workers: int,
    judged: Callable[[Judge], Any],
    features: Features,
    ladder: Ladder,
    tmp_path: Path,
) -> None:
    calls = judged(beta)
    search, store = searched(ladder), Store(tmp_path)
    tune([search], ladder, Resources(features), store, trials=10, workers=workers)
    assert [len(call) for call in calls] == [4, 4, 2]
    assert len({run for call in calls for run in call}) == 10, "asked together, but not equal"


def test_failed_trials_have_no_value_and_are_no_best(
    judged: Callable[[Judge], Any], features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    judged(lambda spec: None if beta(spec) > 1 else beta(spec))
    (tuned,) = tune([searched(ladder)], ladder, Resources(features), Store(tmp_path), trials=12)
    assert tuned.default.value is None
    assert tuned.best is not None and beta(tuned.best.spec) <= 1
    failed = {trial.number for trial in tuned.trials if trial.value is None}
    assert failed == {trial.number for trial in tuned.trials if beta(trial.spec) > 1} != set()
    judged(lambda spec: None)
    (nothing,) = tune([searched(ladder)], ladder, Resources(features), Store(tmp_path / "n"))
    assert nothing.best is None


def test_a_run_that_really_fails_is_a_failed_trial(
    features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    search = searched(ladder, batch_size=4)
    store = Store(tmp_path)
    (tuned,) = tune([search], ladder, Resources(features), store, trials=2)
    assert [trial.value for trial in tuned.trials] == [None, None]
    assert "fewer than 2 classes" in (store.error(search.spec.id) or "")


def test_a_call_that_is_stopped_says_how_to_go_on(
    features: Features, ladder: Ladder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        trials_module, "run_grid", lambda specs, *_, **__: GridOutcome(3, (), (specs[0].id,))
    )
    with pytest.raises(DataError, match="start again to go on"):
        tune([searched(ladder)], ladder, Resources(features), Store(tmp_path))


def test_a_default_outside_the_space_is_tried_but_guides_nothing(
    judged: Callable[[Judge], Any], features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    judged(beta)
    search = searched(ladder, {"beta": Range(2.0, 4.0)})
    (tuned,) = tune([search], ladder, Resources(features), Store(tmp_path), trials=6)
    assert beta(tuned.default.spec) == 1.2
    assert all(2 <= beta(trial.spec) <= 4 for trial in tuned.trials[1:])


def test_progress_counts_the_trials_of_all_searches(
    judged: Callable[[Judge], Any], features: Features, ladder: Ladder, tmp_path: Path
) -> None:
    judged(beta)
    (spec,) = plan(ladder, ["contrastive"], [0], rungs=[0], **QUICK)
    other = Search(spec, default_space(spec, 12))
    seen: list[int] = []
    tuned = tune(
        [searched(ladder), other], ladder, Resources(features), Store(tmp_path), trials=6,
        on_progress=seen.append,
    )  # fmt: skip
    assert seen == [8, 12] and [len(each.trials) for each in tuned] == [6, 6]


def test_bad_calls_are_refused(
    features: Features, ladder: Ladder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(**options: Any) -> None:
        tune([searched(ladder)], ladder, Resources(features), Store(tmp_path), **options)

    with pytest.raises(UsageError, match="0 trials"):
        call(trials=0)
    with pytest.raises(UsageError, match="Did you mean 'recall_at_1'"):
        call(metric="recall_at_11")
    with pytest.raises(UsageError, match="nothing to tune"):
        searched(ladder, {})
    with pytest.raises(UsageError, match="test classes"):
        searched(ladder, few_shot="head")
    with pytest.raises(UsageError, match="none to measure on"):
        searched(ladder, folds=3)
    load = builtins.__import__

    def without_optuna(name: str, *rest: Any) -> Any:
        if name == "optuna":
            raise ImportError(name)
        return load(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_optuna)
    with pytest.raises(DataError, match=r"pip install 'oodml\[tune\]'"):
        call()
