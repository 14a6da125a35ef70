"""Negatives drawn as a policy learns to, from how well training goes on a hold-out."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from oodml.errors import UsageError
from oodml.run_spec import RunSpec
from oodml.train.holdout import BatchesAmong, Indices, held_out
from oodml.train.mining.histogram import BINS, Histogram
from oodml.train.model import EmbeddingModel
from oodml.train.objective import (
    Batch,
    Criterion,
    MakeObjective,
    Objective,
    as_criterion,
)
from oodml.train.observation import History, figures_of
from oodml.train.policy import ProximalPolicy
from oodml.train.registry import Base, Recipe, method
from oodml.train.sampler import Batches
from oodml.train.support import Chosen
from oodml.train.training import Training

_SOURCE = "arXiv:2003.11113 and the runs published with its code"


class LearnedSampling(Objective):
    """A loss over triplets whose negatives come from a histogram that a policy changes.

    A part of every training class is held out. Every `every` steps it is embedded; the sign of
    the change of its recall_at_1 is the reward of the policy's last action, and the next one
    multiplies the histogram's bins. No validation class and no test class is read.
    """

    factors: Tensor
    length: Tensor

    def __init__(
        self,
        spec: RunSpec,
        model: EmbeddingModel,
        *,
        criterion: Criterion,
        histogram: Histogram,
        factors: list[float],
        every: int,
        holdout: float,
        holdout_size: int,
        learning_rate: float,
        refresh: int,
        nmi: bool,
    ) -> None:
        super().__init__(spec, model, replace(criterion, miner=histogram, samplewise=False))
        self.every, self.holdout, self.holdout_size, self.nmi = every, holdout, holdout_size, nmi
        self.history = History(figures=7 if nmi else 6)
        self.agent = ProximalPolicy(
            self.history.size + BINS + 1,
            BINS,
            len(factors),
            learning_rate=learning_rate,
            refresh=refresh,
        )
        self.register_buffer("factors", torch.tensor(factors, dtype=torch.float64))
        self.register_buffer("length", torch.ones((), dtype=torch.int64))
        self._held: Indices | None = None

    @property
    def histogram(self) -> Histogram:
        """Where negatives are drawn from."""
        return cast("Histogram", self.miner_module)

    def private_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """The policy's."""
        return {"policy": self.agent.optimizer}

    def held(self, training: Training) -> Indices:
        """The rows of the training samples that are held out; the same in a resumed run."""
        if self._held is None:
            labels = training.labels.numpy()
            self._held = held_out(labels, self.holdout, self.holdout_size, training.seed)
        return self._held

    def batches(self, training: Training) -> Batches:
        """Batches of what is not held out."""
        every = torch.ones(len(training.labels), dtype=torch.bool)
        every[torch.from_numpy(self.held(training))] = False
        rest = every.nonzero().flatten().numpy()
        chosen = replace(training, samples=Chosen(training.samples, rest))
        return BatchesAmong(rest, super().batches(chosen))

    def begin_epoch(self, training: Training, epoch: int) -> None:
        """Note the length of the run, kept in a buffer for a resumed one."""
        self.length.fill_(self.spec.epochs * self.batches(training).batches or self.spec.steps)

    def after_step(self, training: Training, batch: Batch, step: int) -> None:
        """Every so often measure the hold-out, teach the policy and let it act."""
        if (step + 1) % self.every:
            return
        before, first = self._score(), not self.history.added
        self.history.add(self._figures(training))
        state = self._state(step)
        if not first:
            after = self._score()
            self.agent.learn(float((after > before) - (after < before)), state)
        self.histogram.multiply(self.factors[self.agent.act(state)])

    def _figures(self, training: Training) -> Tensor:
        rows = self.held(training)
        embeddings = training.encode(self, index=rows)
        return figures_of(embeddings, training.labels[torch.from_numpy(rows)], self.nmi)

    def _score(self) -> float:
        """recall_at_1, plus NMI where it is measured."""
        last = self.history.last
        return float(last[0] + last[-1] if self.nmi else last[0])

    def _state(self, step: int) -> Tensor:
        progress = ((step + 1) / self.length).reshape(1)
        probabilities = self.histogram.probabilities.float()
        return torch.cat([self.history.summary(), probabilities, progress])


def factors_in(text: str) -> list[float]:
    """The numbers above 0 of "0.8-1-1.25"; `UsageError` for anything else."""
    try:
        factors = [float(part) for part in text.split("-")]
    except ValueError:
        factors = []
    if not factors or not all(0 < factor < float("inf") for factor in factors):
        raise UsageError(f"pads: actions={text!r}: write factors above 0 as 0.8-1-1.25.")
    return factors


def _check(every: int, holdout: float, holdout_size: int, refresh: int) -> None:
    if every < 1 or refresh < 1:
        raise UsageError(f"pads: every={every}, refresh={refresh}: give 1 or more.")
    if not 0 < holdout < 1:
        raise UsageError(f"pads: holdout={holdout}: give a share of the training samples.")
    if holdout_size < 4:
        raise UsageError(f"pads: holdout_size={holdout_size}: give 4 samples or more.")


def _mines_triplets(criterion: Criterion) -> bool:
    if criterion.miner is None:
        return False
    points = functional.normalize(torch.eye(4) + 0.5, dim=1)
    return len(criterion.miner(points, torch.tensor([0, 0, 1, 1]))) == 3


@method(
    "pads",
    paper="arXiv:2003.11113",
    source=f"{_SOURCE}, CUB200-2011; every and holdout_size chosen here for short runs",
    needs="hold-out of the training data, private optimiser",
    recipes={
        "cub200": Recipe(
            _SOURCE,
            {"base.beta": 0.6, "every": 30},
            {"criterion_learning_rate": 1e-3, "samples_per_class": 2},
        ),
        "cars196": Recipe(
            _SOURCE,
            {"base.beta": 0.6, "every": 30, "holdout": 0.1, "nmi": True},
            {"criterion_learning_rate": 5e-4, "samples_per_class": 4},
        ),
        "sop": Recipe(
            _SOURCE,
            {"base.beta": 1.2, "every": 60, "holdout": 0.1, "nmi": True},
            {"criterion_learning_rate": 1e-3, "samples_per_class": 2},
        ),
    },
)
def pads(
    num_classes: int,
    embedding_dim: int,
    *,
    base: Base = Base("margin"),  # noqa: B008 (a frozen record)
    actions: str = "0.8-1-1.25",
    every: int = 4,
    holdout: float = 0.15,
    holdout_size: int = 512,
    self_regularized: bool = True,
    policy_learning_rate: float = 0.01,
    refresh: int = 5,
    nmi: bool = False,
) -> MakeObjective:
    """PADS: negatives drawn by their distance, from a histogram that a policy keeps adjusting.

    The policy is rewarded where a hold-out of the training classes is retrieved better than
    `every` steps before: by recall_at_1 or, with `nmi`, its sum with NMI. The hold-out is a share
    `holdout` of every training class, at least two samples and at most `holdout_size` in all;
    the paper takes all of it. For long runs of whole networks the paper's `every` is 30, or 60
    with many classes. `self_regularized` leaves positives and the anchor itself among the
    negatives.
    """
    _check(every, holdout, holdout_size, refresh)
    criterion = as_criterion(base.criterion(num_classes, embedding_dim))
    if not _mines_triplets(criterion):
        raise UsageError(
            f"pads: base={base.name} is no loss over mined triplets; give one, such as margin."
        )
    return partial(
        LearnedSampling,
        criterion=criterion,
        histogram=Histogram(self_regularized),
        factors=factors_in(actions),
        every=every,
        holdout=holdout,
        holdout_size=holdout_size,
        learning_rate=policy_learning_rate,
        refresh=refresh,
        nmi=nmi,
    )
