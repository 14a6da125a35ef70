"""Synthetic negatives: which samples they are made of, where they lie, and who judges them."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from oodml.errors import UsageError
from oodml.train.objective import Criterion


@dataclass(frozen=True, eq=False)
class Triplets:
    """Places in a batch, int64 (T,) each; one synthetic negative is made of each triplet."""

    anchors: Tensor
    positives: Tensor
    negatives: Tensor

    def __len__(self) -> int:
        return len(self.anchors)


def constant(module: nn.Module, inputs: Tensor) -> Tensor:
    """What a module makes of inputs, its parameters taken as constants; the inputs are not.

    `inputs` is (B, k).
    """
    parameters = {name: value.detach() for name, value in module.named_parameters()}
    output: Tensor = functional_call(module, parameters, (inputs,))
    return output


def loss_on(
    criterion: Criterion, outputs: Tensor, labels: Tensor, made: Tensor, triplets: Triplets
) -> Tensor:
    """A loss over pairs of the anchors and positives in a batch with synthetic negatives.

    `outputs` (B, d) and `made` (T, d) are what the head made of samples and of the negatives, the
    t-th of the t-th triplet; they are brought to unit length if the loss wants that.
    """
    vectors = torch.cat([outputs, made])
    if criterion.normalized:
        vectors = functional.normalize(vectors, dim=1)
    of_all = torch.cat([labels, labels[triplets.negatives]])
    places = len(labels) + torch.arange(len(triplets), device=labels.device)
    tuples = (triplets.anchors, triplets.positives, triplets.anchors, places)
    value: Tensor = criterion.loss(vectors, of_all, tuples)
    return value


def check_base(criterion: Criterion, dimension: int, method: str, base: str) -> None:
    """Raise `UsageError` for a base loss that is not one over given pairs, tried on a copy.

    Such a loss does not know one class from another: renaming the classes does not change it.
    """
    points = functional.normalize(torch.eye(4, dimension) + 0.5, dim=1)
    tuples = tuple(torch.tensor(places) for places in ([0, 2], [1, 3], [0, 2], [3, 1]))
    try:
        with torch.no_grad():
            loss = deepcopy(criterion.loss)
            here, there = (
                loss(points, torch.tensor(labels), tuples)
                for labels in ([0, 0, 1, 1], [1, 1, 0, 0])
            )
    except (TypeError, ValueError, NotImplementedError):
        here, there = torch.zeros(()), torch.ones(())
    if not torch.allclose(here, there):
        raise UsageError(
            f"{method}: base={base} does not judge pairs that it is given; give a loss over "
            "pairs or triplets, such as n_pair or triplet."
        )
