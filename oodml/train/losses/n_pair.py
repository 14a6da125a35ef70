"""N-pair loss on un-normalised outputs, and the angular loss that is added to it."""

from __future__ import annotations

from pytorch_metric_learning import losses
from torch import Tensor, nn
from torch.nn import functional

from oodml.train.losses.exponentials import nt_xent
from oodml.train.methods.parts.over_pairs import OverPairs, cosines


class NPair(nn.Module):
    """Cross-entropy over inner products of anchors and positives, plus w * mean ||z||^2.

    Needs the tuples of `oodml.train.mining.OnePairPerClass`: each anchor's own positive against
    the positives of the other classes.
    """

    def __init__(self, regularizer: float) -> None:
        super().__init__()
        self.cross_entropy = OverPairs(cosines, nt_xent, temperature=1.0)
        self.regularizer = regularizer

    def forward(self, outputs: Tensor, labels: Tensor, tuples: tuple[Tensor, ...]) -> Tensor:
        """The scalar loss of outputs (B, D) of any length."""
        value: Tensor = self.cross_entropy(outputs, labels, tuples)
        return value + self.regularizer * outputs.square().sum(1).mean()


class AngularNPair(nn.Module):
    """The N-pair loss of the outputs plus a weight times the angular loss of their directions.

    The angular loss goes over all positive pairs of the batch and all negatives of each.
    """

    def __init__(self, alpha: float, weight: float, regularizer: float) -> None:
        super().__init__()
        self.n_pair = NPair(regularizer)
        # pytorch-metric-learning leaves the negatives as they are given, so it gets unit vectors.
        self.angular = losses.AngularLoss(alpha)
        self.weight = weight

    def forward(self, outputs: Tensor, labels: Tensor, tuples: tuple[Tensor, ...]) -> Tensor:
        """The scalar loss of outputs (B, D) of any length."""
        value: Tensor = self.n_pair(outputs, labels, tuples)
        angular: Tensor = self.angular(functional.normalize(outputs, dim=1), labels)
        return value + self.weight * angular
