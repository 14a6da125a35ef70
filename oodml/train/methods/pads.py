"""Training whose negatives are drawn as a policy learns to draw them."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from oodml.runs.spec import RunSpec
from oodml.train.batches import Batches
from oodml.train.few_shot.support import Chosen
from oodml.train.holdout import BatchesAmong, Indices, held_out
from oodml.train.mining.histogram import BINS, Histogram
from oodml.train.model import EmbeddingModel
from oodml.train.objective import (
    Batch,
    Criterion,
    Objective,
)
from oodml.train.observation import History, figures_of
from oodml.train.policy import ProximalPolicy
from oodml.train.training import Training


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
        self.length.fill_(self.total_steps(training))

    def after_step(self, training: Training, batch: Batch) -> None:
        """Every so often measure the hold-out, teach the policy and let it act."""
        if (batch.step + 1) % self.every:
            return
        before, first = self._score(), not self.history.added
        self.history.add(self._figures(training))
        state = self._state(batch.step)
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
