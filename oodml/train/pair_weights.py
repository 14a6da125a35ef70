"""The weight that a loss's gradient gives each pair of a batch."""

from __future__ import annotations

import logging
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.errors import DataError
from oodml.eval.figures.pair_weights import FILE, PairWeights
from oodml.train.distributed import rank
from oodml.train.loop import seeded
from oodml.train.objective import Criterion, Objective, Training

# Number of samples whose pairs are evaluated: enough for a curve.
SAMPLES = 64
# Share of each unit vector's squared length in its own extra dimension.
OWN = 1e-6
_SAME = 1e-3
# The most class vectors compared: those of the batch's classes, then others at even distances.
LOOKED_AT = 128
log = logging.getLogger("oodml")


def save_pair_weights(objective: Objective, training: Training, directory: Path) -> None:
    """Write the pair weights of one batch under the objective's loss, if it is a loss over pairs.

    Methods that override the loss hook are skipped.
    """
    if type(objective) is not Objective or rank():
        return
    with seeded(training.seed, "pairs"):
        index = next(iter(objective.loader(training, 0)))[:SAMPLES]
        output = training.encode(objective, "output", index)
        labels = training.labels[torch.from_numpy(index)]
        try:
            weights = pair_weights(
                objective.criterion, output, labels, int(training.labels.max()) + 1
            )
        except DataError as error:
            log.info("%s: no pair weights: %s", objective.spec.label, error)
            return
    weights.binned().save(directory / FILE)


def pair_weights(
    criterion: Criterion, output: Tensor, labels: Tensor, num_classes: int
) -> PairWeights:
    """The weights w of all pairs (i, j) of a batch under a loss, in float64.

    `output` (B, D) is the head's, `labels` (B,) lie below `num_classes`. A loss that depends on
    inner products only has the gradient dL/de_i = sum_j w_ij e_j. Each sample gets a small
    component in an extra dimension of its own: the gradient of another sample in that dimension is
    w_ij times the component, whatever the loss computes. Pairs of a sample and a learned vector of
    a class (a proxy) are evaluated in the same way. Raises `DataError` for a loss that depends on
    more than inner products.
    """
    loss = deepcopy(criterion).cpu().eval()
    unit = functional.normalize(output.detach().double(), dim=1)
    vectors = unit if loss.normalized else output.detach().double()
    tuples: tuple[object, ...] = ()
    if loss.miner is not None:
        with torch.no_grad():
            tuples = (loss.miner(unit.float(), labels),)
    loss.double()
    proxies = _class_vectors(loss, unit.shape[1])
    if proxies is not None:
        return _of_proxies(loss, proxies, vectors, labels, tuples, num_classes)
    weight = _weights(_gradient(loss, _extended(vectors), labels, tuples), vectors)
    pairs = np.triu_indices(len(unit), k=1)
    same = labels[:, None] == labels[None, :]
    return PairWeights(
        (unit @ unit.T).numpy()[pairs],
        same.numpy()[pairs],
        ((weight + weight.T) / 2).numpy()[pairs],
        "sample",
    )


def _extended(vectors: Tensor, chosen: Tensor | None = None) -> Tensor:
    """The vectors (n, D) with an extra dimension for each of the chosen k (or all): (n, D + k).

    Their lengths do not change.
    """
    chosen = torch.arange(len(vectors)) if chosen is None else chosen
    size = torch.zeros(len(vectors), 1, dtype=vectors.dtype)
    size[chosen] = OWN
    own = torch.zeros(len(vectors), len(chosen), dtype=vectors.dtype)
    own[chosen, torch.arange(len(chosen))] = OWN**0.5 * vectors[chosen].norm(dim=1)
    return torch.cat([(1 - size) ** 0.5 * vectors, own], dim=1)


def _gradient(
    loss: nn.Module, vectors: Tensor, labels: Tensor, tuples: tuple[object, ...]
) -> Tensor:
    vectors = vectors.clone().requires_grad_(True)
    value = loss(vectors, labels, *tuples)
    if not value.requires_grad:
        return torch.zeros_like(vectors)
    (gradient,) = torch.autograd.grad(value, vectors, allow_unused=True)
    return torch.zeros_like(vectors) if gradient is None else gradient


def _class_vectors(loss: nn.Module, dimension: int) -> _ClassVectors | None:
    """The parameter that holds class vectors, if the loss has one."""
    for name, parameter in loss.named_parameters():
        rows = parameter.shape[-1] == dimension and parameter.ndim > 1
        columns = parameter.ndim == 2 and parameter.shape[0] == dimension
        # Classifiers of pytorch-metric-learning have one column per class, in a parameter W.
        if columns and (not rows or name.endswith("W")):
            return _ClassVectors(name, parameter.detach().T, columns=True)
        if rows:
            return _ClassVectors(name, parameter.detach())
    return None


@dataclass(frozen=True, eq=False)
class _ClassVectors:
    """A parameter whose last axis (or first, with `columns`) are the dimensions of embeddings."""

    name: str
    vectors: Tensor
    columns: bool = False

    @property
    def rows(self) -> Tensor:
        """(R, D), the vectors of one class side by side."""
        return self.vectors.reshape(-1, self.vectors.shape[-1])

    def widen_in(self, loss: nn.Module, chosen: Tensor) -> None:
        """Replace the loss's vectors by ones with extra dimensions for the chosen: (..., D + k)."""
        wider = _extended(self.rows, chosen).reshape(*self.vectors.shape[:-1], -1)
        holder, _, attribute = self.name.rpartition(".")
        replaced = nn.Parameter(wider.T.contiguous() if self.columns else wider)
        setattr(loss.get_submodule(holder), attribute, replaced)


def _of_proxies(
    loss: nn.Module,
    proxies: _ClassVectors,
    vectors: Tensor,
    labels: Tensor,
    tuples: tuple[object, ...],
    num_classes: int,
) -> PairWeights:
    rows = proxies.rows
    if len(rows) % num_classes:
        raise DataError(f"{len(rows)} learned vectors do not divide among {num_classes} classes.")
    classes = torch.arange(len(rows)) * num_classes // len(rows)
    chosen = _looked_at(classes, labels)
    inputs = torch.cat([vectors, vectors.new_zeros(len(vectors), len(chosen))], dim=1)
    before = float(loss(vectors, labels, *tuples).detach())
    proxies.widen_in(loss, chosen)
    try:
        after = float(loss(inputs, labels, *tuples).detach())
        gradient = _gradient(loss, inputs, labels, tuples)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise DataError(f"this loss does not take class vectors of another size: {error}") from None
    if abs(after - before) > _SAME * max(abs(before), 1):
        raise DataError("this loss does not depend on inner products with its class vectors alone.")
    similarity = functional.normalize(vectors, dim=1) @ functional.normalize(rows[chosen], dim=1).T
    return PairWeights(
        similarity.flatten().numpy(),
        (labels[:, None] == classes[chosen][None, :]).flatten().numpy(),
        _weights(gradient, vectors).flatten().numpy(),
        "proxy",
    )


def _looked_at(classes: Tensor, labels: Tensor) -> Tensor:
    own = torch.isin(classes, labels)
    others = torch.nonzero(~own).flatten()
    spare = max(LOOKED_AT - int(own.sum()), 0)
    if len(others) > spare:
        others = others[torch.linspace(0, len(others) - 1, spare).long()]
    return torch.cat([torch.nonzero(own).flatten(), others])


def _weights(gradient: Tensor, vectors: Tensor) -> Tensor:
    """Pair weights from the gradient in the partners' extra dimensions."""
    slope = gradient[:, vectors.shape[1] :] / OWN**0.5
    weights: Tensor = slope * torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return weights
