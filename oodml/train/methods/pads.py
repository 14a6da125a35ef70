"""PADS: negatives sampled by a histogram of distances that a policy adapts in training."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.errors import DataError, UsageError
from oodml.eval.retrieval.clustering import cluster, normalized_mutual_information
from oodml.runs.spec import RunSpec
from oodml.seeding import generator
from oodml.text import positive_numbers
from oodml.train.batches import Batches, batches_for
from oodml.train.methods.parts.mining import TripletMiner, Triplets, draw, unit_distances
from oodml.train.model import EmbeddingModel
from oodml.train.objective import Batch, Criterion, Objective, Training
from oodml.train.registry import Base, method

Indices = npt.NDArray[np.int64]
# A class needs two samples to be evaluated, and two to be trained on.
PAIR = 2
# The histogram: 29 bins between 30 knots, and weights that stay within float's reach.
LOWEST, HIGHEST, BINS = 0.1, 1.4, 29
INITIAL = (0.3, 0.7)
# The weight of all other bins at first, as in the code published with the paper.
ELSEWHERE = 1e-15
LEAST_WEIGHT, LARGEST_WEIGHT = 1e-25, 1e25
# What the policy sees: recall at these depths, the last figures, and running means of them.
DEPTHS = (1, 2, 4, 8)
KEPT = 20
WINDOWS = (2, 8, 16, 32)
# The policy's width; the discount of its rewards and the range of its ratios.
HIDDEN, DISCOUNT, CLIP = 128, 0.99, 0.2


@method(
    "pads",
    paper="arXiv:2003.11113",
    source="arXiv:2003.11113 and the runs published with its code, CUB200-2011; every and "
    "holdout_size chosen here for short runs",
    needs="hold-out of the training data, private optimiser",
)
class LearnedSampling(Objective):
    """PADS: negatives sampled by a histogram of distances that a policy (PPO) adapts in training.

    A share `holdout` of every training class is held out, at least two samples per class and at
    most `holdout_size` in all; the paper evaluates on all of it. It is embedded every `every`
    steps. The sign of the change of its recall_at_1, or with `nmi` of recall_at_1 + NMI, is the
    reward of the policy's last action, and the next action multiplies the histogram's bins. For
    long runs of whole networks the paper's `every` is 30, or 60 with many classes. With
    `self_regularized` positives and the anchor itself are among the candidates for negatives.
    """

    factors: Tensor

    def __init__(
        self,
        spec: RunSpec,
        model: EmbeddingModel,
        num_classes: int,
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
    ) -> None:
        if every < 1 or refresh < 1:
            raise UsageError(f"pads: every={every}, refresh={refresh}: give 1 or more.")
        if not 0 < holdout < 1:
            raise UsageError(f"pads: holdout={holdout}: give a share of the training samples.")
        if holdout_size < 4:
            raise UsageError(f"pads: holdout_size={holdout_size}: give 4 samples or more.")
        criterion = base.criterion(num_classes, model.embedding_dim)
        if not isinstance(criterion.miner, TripletMiner):
            raise UsageError(
                f"pads: base={base.name} is no loss over mined triplets; give one, such as margin."
            )
        histogram = Histogram(self_regularized)
        mined = Criterion(criterion, histogram, normalized=criterion.normalized)
        super().__init__(spec, model, mined)
        self.histogram = histogram
        self.every, self.holdout, self.holdout_size, self.nmi = every, holdout, holdout_size, nmi
        self.history = History(figures=7 if nmi else 6)
        factors = positive_numbers(actions, float, "pads: actions")
        self.agent = ProximalPolicy(
            self.history.size + BINS + 1,
            BINS,
            len(factors),
            learning_rate=policy_learning_rate,
            refresh=refresh,
        )
        self.register_buffer("factors", torch.tensor(factors, dtype=torch.float64))
        self._held: Indices | None = None

    def private_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """The policy's optimiser."""
        return {"policy": self.agent.optimizer}

    def held(self, training: Training) -> Indices:
        """The held-out rows of the training samples; a resumed run holds out the same."""
        if self._held is None:
            labels = training.labels.numpy()
            self._held = held_out(labels, self.holdout, self.holdout_size, training.seed)
        return self._held

    def batches(self, training: Training) -> Batches:
        """Batches of the samples that are not held out, as positions among those."""
        labels = training.labels.numpy()[self._rest(training)]
        return batches_for(self.spec.training, labels, seed=training.seed)

    def loader(self, training: Training, epoch: int) -> Iterable[Any]:
        """The same batches as index arrays into all training samples."""
        rest = self._rest(training)
        return (rest[places] for places in super().loader(training, epoch))

    def _rest(self, training: Training) -> Indices:
        return np.setdiff1d(np.arange(len(training.labels)), self.held(training))

    def after_step(self, training: Training, batch: Batch) -> None:
        """Every `every` steps evaluate the held-out samples, update the policy and let it act."""
        if (batch.step + 1) % self.every:
            return
        before, first = self._score(), not self.history.added
        self.history.add(self._figures(training))
        progress = torch.tensor([(batch.step + 1) / self.total_steps(training)])
        probabilities = self.histogram.probabilities.float()
        state = torch.cat([self.history.summary(), probabilities, progress.to(probabilities)])
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
        last = self.history.values[-1]
        return float(last[0] + last[-1] if self.nmi else last[0])


class Histogram(TripletMiner):
    """One triplet per anchor: a random positive, a negative drawn by a histogram of distances.

    Candidate k of anchor i is drawn with a probability proportional to `weights[bin(D_ik)]`.
    Distances below 0.1 belong to the first bin, those above 1.4 to the last: in 128 dimensions half
    of all random pairs are farther than 1.4, and should not be excluded. With `self_regularized`
    the positives and the anchor itself are among the candidates, which spreads classes as in
    arXiv:2002.08473.
    """

    weights: Tensor
    borders: Tensor

    def __init__(self, self_regularized: bool = True) -> None:
        super().__init__()
        self.self_regularized = self_regularized
        knots = torch.linspace(LOWEST, HIGHEST, BINS + 1)
        centers = (knots[1:] + knots[:-1]) / 2
        inside = (centers >= INITIAL[0]) & (centers <= INITIAL[1])
        self.register_buffer("weights", torch.where(inside, 1.0, ELSEWHERE).double())
        self.register_buffer("borders", knots[1:-1])

    @property
    def probabilities(self) -> Tensor:
        """The weights (29,), normalised to sum 1, in float64."""
        return self.weights / self.weights.sum()

    @torch.no_grad()
    def multiply(self, factors: Tensor) -> None:
        """Multiply the weights by factors (29,) and keep them between 1e-25 and 1e25."""
        self.weights.mul_(factors).clamp_(LEAST_WEIGHT, LARGEST_WEIGHT)

    def bins(self, distances: Tensor) -> Tensor:
        """The bin of every distance, from 0, in the shape of `distances`."""
        return torch.bucketize(distances, self.borders)

    @torch.no_grad()
    def forward(self, embeddings: Tensor, labels: Tensor) -> Triplets:
        """Indices (T,) of anchors, positives and negatives in the batch (B, d)."""
        distances = unit_distances(embeddings).fill_diagonal_(0.0)
        positive = labels[:, None] == labels[None, :]
        candidate = torch.ones_like(positive) if self.self_regularized else ~positive
        positive.fill_diagonal_(False)
        anchors = torch.nonzero(candidate.any(1) & positive.any(1)).flatten()
        if not len(anchors):
            return anchors, anchors, anchors
        chances = self.chances(distances[anchors], candidate[anchors])
        return anchors, draw(positive[anchors]), torch.multinomial(chances, 1).flatten()

    def chances(self, distances: Tensor, candidate: Tensor) -> Tensor:
        """The probability (A, B) of each candidate; every row has at least one."""
        logits = self.weights.log().float()[self.bins(distances)]
        return functional.softmax(logits.masked_fill(~candidate, -torch.inf), dim=1)


def held_out(labels: Indices, share: float, most: int, seed: int) -> Indices:
    """The rows (h,) that are held out of samples with labels (n,), in ascending order.

    A `share` of every class, but at least two samples, with two left to train on; no more than
    `most` in all, spread over as many classes as possible. The same for the same labels and seed.
    Raises `DataError` where that holds out fewer than two classes.
    """
    random = generator(seed, "hold-out")
    order = np.argsort(labels, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    largest = max(PAIR, most // len(members))
    held: list[Indices] = []
    room = most
    for number in random.permutation(len(members)):
        own = members[number]
        count = min(max(PAIR, round(share * len(own))), largest)
        if len(own) >= count + PAIR and count <= room:
            held.append(random.choice(own, count, replace=False))
            room -= count
    if len(held) < PAIR:
        raise DataError(
            f"{len(held)} of {len(members)} training classes have the 4 samples that a hold-out of "
            "2 needs; 2 classes or more are needed."
        )
    return np.sort(np.concatenate(held))


def figures_of(embeddings: Tensor, labels: Tensor, nmi: bool = False) -> Tensor:
    """Recall at 1, 2, 4 and 8, mean cosine distance within and between classes, and NMI if asked.

    (6,) or (7,) float32 of unit-length embeddings (n, D) on the CPU. Distances are means over
    pairs; NMI takes a k-means run of as many clusters as there are classes.
    """
    cosines = embeddings @ embeddings.T
    same = labels[:, None] == labels[None, :]
    nearest = cosines.clone().fill_diagonal_(-torch.inf)
    order = nearest.topk(min(max(DEPTHS), len(labels) - 1), dim=1).indices
    hits = labels[order] == labels[:, None]
    recalls = [hits[:, :depth].any(1).float().mean() for depth in DEPTHS]
    within = same.clone().fill_diagonal_(False)
    figures = [*recalls, 1 - cosines[within].mean(), 1 - cosines[~same].mean()]
    if nmi:
        classes = np.unique(labels.numpy(), return_inverse=True)[1]
        clusters = cluster(embeddings.numpy(), int(classes.max()) + 1)
        figures.append(torch.tensor(normalized_mutual_information(clusters, classes)))
    return torch.stack(figures).float()


class History(nn.Module):
    """The last 32 vectors of figures (f,), newest last, padded with copies of the first one."""

    values: Tensor
    added: Tensor

    def __init__(self, figures: int) -> None:
        super().__init__()
        self.register_buffer("values", torch.zeros(max(WINDOWS), figures))
        self.register_buffer("added", torch.zeros((), dtype=torch.int64))

    @property
    def size(self) -> int:
        """The length of `summary`."""
        return int(self.values.shape[1]) * (KEPT + len(WINDOWS))

    def add(self, figures: Tensor) -> None:
        """Put new figures (f,) last."""
        older = self.values[1:] if self.added else figures.expand(len(self.values) - 1, -1)
        self.values.copy_(torch.cat([older, figures[None].to(older)]))
        self.added += 1

    def summary(self) -> Tensor:
        """The last 20 vectors and the means over the last 2, 8, 16 and 32, (24 f,)."""
        means = [self.values[-window:].mean(0) for window in WINDOWS]
        return torch.cat([self.values[-KEPT:].flatten(), *means])


class Policy(nn.Module):
    """An MLP, two layers of 128 with ReLU, to the logits of every bin's actions and a value."""

    def __init__(self, state_size: int, bins: int, actions: int) -> None:
        super().__init__()
        self.bins = bins
        self.body = nn.Sequential(
            nn.Linear(state_size, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU()
        )
        self.choice = nn.Linear(HIDDEN, bins * actions)
        self.value = nn.Linear(HIDDEN, 1)

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """The log-probabilities (bins, actions) in a state (S,), and the state's value ()."""
        hidden = self.body(state)
        logits = self.choice(hidden).view(self.bins, -1)
        return logits.log_softmax(dim=1), self.value(hidden).squeeze(0)


class ProximalPolicy(nn.Module):
    """A policy with one action per bin, trained by one PPO step (arXiv:1707.06347) per transition.

    The target of the value is r + 0.99 V(s'), and its difference from V(s) the advantage; the code
    of arXiv:2003.11113 takes the raw metric as the target, which is inconsistent with the reward in
    its advantage. Actions are drawn from the old policy, whose probability is the denominator of
    PPO's ratio; it is updated to the new one every `refresh` steps. Ratios are clipped per bin. The
    last state and action are kept in buffers.
    """

    state: Tensor
    chosen: Tensor
    learned: Tensor

    def __init__(
        self,
        state_size: int,
        bins: int,
        actions: int,
        *,
        learning_rate: float,
        refresh: int,
    ) -> None:
        super().__init__()
        self.refresh = refresh
        self.policy = Policy(state_size, bins, actions)
        self.old = deepcopy(self.policy).requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.policy.parameters(), lr=learning_rate)
        self.register_buffer("state", torch.zeros(state_size))
        self.register_buffer("chosen", torch.zeros(bins, dtype=torch.int64))
        self.register_buffer("learned", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def act(self, state: Tensor) -> Tensor:
        """Draw the actions (bins,) for a state (S,), and store both."""
        self.state.copy_(state)
        self.chosen.copy_(torch.multinomial(self.old(state)[0].exp(), 1).flatten())
        return self.chosen

    def learn(self, reward: float, state: Tensor) -> None:
        """Take one PPO step, given the reward of the last action and the state that followed."""
        with torch.no_grad():
            target = reward + DISCOUNT * self.policy(state)[1]
        value = self.policy(self.state)[1]
        advantage = (target - value).detach()
        loss = -surrogate(self.ratio(), advantage, CLIP).mean()
        loss = loss + 0.5 * (value - target).square()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.learned += 1
        if self.learned % self.refresh == 0:
            self.old.load_state_dict(self.policy.state_dict())

    def ratio(self) -> Tensor:
        """The probability of each bin's last action over that under the old policy: (bins,)."""
        new = self.policy(self.state)[0].gather(1, self.chosen[:, None])
        old = self.old(self.state)[0].gather(1, self.chosen[:, None])
        ratio: Tensor = (new - old).exp().flatten()
        return ratio


def surrogate(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """min(ratio A, clipped ratio A), in the shape of `ratio` (arXiv:1707.06347)."""
    clipped = ratio.clamp(1 - clip, 1 + clip)
    return torch.minimum(ratio * advantage, clipped * advantage)
