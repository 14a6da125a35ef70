"""Synthetic negatives: which samples they are made of, and what judges them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

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
    value: Tensor = criterion(vectors, of_all, tuples)
    return value
