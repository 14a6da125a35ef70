"""tune: trials of settings, chosen by what earlier ones gave on a rung's validation classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oodml.errors import DataError, UsageError, unknown_name
from oodml.eval.retrieval.evaluate import DEFAULT_METRICS
from oodml.launch import run_grid
from oodml.runs.spec import RunSpec
from oodml.runs.store import Store
from oodml.seeding import derive_seed
from oodml.splits.ladder import Ladder
from oodml.train.build import Resources
from oodml.train.members import check_measured_on
from oodml.tune.space import Choices, Range, Space, applied, settings_of

# Trials asked for before any of them is told: whatever the number of workers, so that it changes
# nothing. The first round is the default and three settings drawn at random.
ROUND = 4
STARTUP = ROUND
METRIC = "mean_average_precision_at_r"


@dataclass(frozen=True)
class Search:
    """What is tuned: the setting that trial 0 has, and what is searched around it."""

    spec: RunSpec
    space: Space

    def __post_init__(self) -> None:
        object.__setattr__(self, "spec", self.spec.with_settings(measured_on="validation"))
        check_measured_on(self.spec)
        if not self.space:
            raise UsageError(f"{self.spec.method.name} has nothing to tune; give it a space.")


@dataclass(frozen=True)
class Trial:
    """One setting that was tried, and its value on the validation classes; None if it failed."""

    number: int
    spec: RunSpec
    value: float | None


@dataclass(frozen=True)
class Tuned:
    """The trials of one search, in the order in which they were asked for."""

    search: Search
    trials: tuple[Trial, ...]

    @property
    def default(self) -> Trial:
        """The setting without tuning."""
        return self.trials[0]

    @property
    def best(self) -> Trial | None:
        """The first trial with the highest value; None if all failed."""
        finished = [trial for trial in self.trials if trial.value is not None]
        return max(finished, key=lambda trial: (trial.value, -trial.number), default=None)


def tune(
    searches: Sequence[Search],
    ladder: Ladder,
    resources: Resources | Sequence[Resources],
    store: Store,
    *,
    trials: int = 20,
    seed: int = 0,
    metric: str = METRIC,
    workers: int = 1,
    plugins: Sequence[Path] = (),
    on_progress: Callable[[int], object] | None = None,
) -> list[Tuned]:
    """`trials` settings of every search, each tried by one run that the store keeps.

    Trial 0 is the search's own setting; the others are proposed by Optuna's tree-structured Parzen
    estimator (TPE, arXiv:2304.11127), four at a time. A proposal follows from `seed` and the values
    before it, so a call after an interrupted one asks for the same runs and finds them done; more
    trials go on where fewer ended. The runs train on the split's fitting classes and `metric` is
    measured on its validation classes; no test class is read. A trial that fails has no value.
    `on_progress` is called with the number of trials that have ended, in all searches together.
    Raises `DataError` when runs are missing in the end because the call was stopped.
    """
    if trials < 1:
        raise UsageError(f"{trials} trials: give 1 or more.")
    check_ready(metric)
    studies = [_Study(search, seed) for search in searches]
    report = on_progress or (lambda ended: None)
    for ended in range(0, trials, ROUND):
        asked = [study.ask(min(ROUND, trials - ended)) for study in studies]
        specs = {spec.id: spec for each in asked for spec in each}
        outcome = run_grid(
            list(specs.values()), ladder, resources, store, workers=workers, plugins=plugins
        )
        if outcome.missing:
            raise DataError(
                f"{len(outcome.missing)} trials are not done; start again to go on where it stood."
            )
        for study, own in zip(studies, asked, strict=True):
            study.tell([_value(store, spec, metric) for spec in own])
        report(sum(len(study.trials) for study in studies))
    return [Tuned(study.search, tuple(study.trials)) for study in studies]


def check_ready(metric: str) -> None:
    """`UsageError` for a metric that runs do not have, `DataError` where Optuna is missing."""
    if metric not in DEFAULT_METRICS:
        raise unknown_name("metric of a run", metric, DEFAULT_METRICS)
    _import_optuna()


def _value(store: Store, spec: RunSpec, metric: str) -> float | None:
    record = store.record(spec.id)
    return record.metrics[metric] if record else None


@dataclass
class _Study:
    """An Optuna study of one search, in memory: it is asked and told again by every call."""

    search: Search
    seed: int
    trials: list[Trial] = field(default_factory=list)
    asked: list[tuple[RunSpec, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        optuna = _import_optuna()
        purpose = derive_seed(self.seed, "tune", self.search.spec.label)
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=STARTUP, constant_liar=True, seed=purpose % 2**32
        )
        self.study = optuna.create_study(direction="maximize", sampler=sampler)
        self.distributions = {
            name: _distribution(optuna, domain) for name, domain in self.search.space.items()
        }
        self.complete, self.failed = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL
        self.create_trial = optuna.trial.create_trial

    def ask(self, count: int) -> list[RunSpec]:
        """The next specs to try; the search's own setting comes first."""
        spec = self.search.spec
        own = 0 if self.trials else 1
        self.asked = [(spec, None)] * own
        for _ in range(count - own):
            trial = self.study.ask(self.distributions)
            space = self.search.space
            values = {name: _short(value, space[name]) for name, value in trial.params.items()}
            self.asked.append((applied(spec, values), trial))
        return [spec for spec, _ in self.asked]

    def tell(self, values: Sequence[float | None]) -> None:
        """What the specs that were asked for last gave."""
        for (spec, trial), value in zip(self.asked, values, strict=True):
            self.trials.append(Trial(len(self.trials), spec, value))
            if trial is None:
                self._tell_default(value)
            elif value is None:
                self.study.tell(trial, state=self.failed)
            else:
                self.study.tell(trial, value)

    def _tell_default(self, value: float | None) -> None:
        """The search's own setting is told too, unless the user's space leaves it out."""
        known = settings_of(self.search.spec, self.search.space)
        if not all(domain.holds(known[name]) for name, domain in self.search.space.items()):
            return
        state = self.complete if value is not None else self.failed
        self.study.add_trial(
            self.create_trial(
                params=known, distributions=self.distributions, value=value, state=state
            )
        )


def _distribution(module: Any, domain: Range | Choices) -> Any:
    kinds = module.distributions
    if isinstance(domain, Choices):
        return kinds.CategoricalDistribution(domain.values)
    kind = kinds.IntDistribution if domain.whole else kinds.FloatDistribution
    return kind(domain.low, domain.high, log=domain.logarithmic)


def _short(value: Any, domain: Range | Choices) -> Any:
    """A float with four digits, which say enough, and within its bounds."""
    if not isinstance(domain, Range) or domain.whole:
        return value
    return min(max(float(f"{value:.4g}"), domain.low), domain.high)


def _import_optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise DataError("`oodml tune` needs Optuna: pip install 'oodml[tune]'.") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
