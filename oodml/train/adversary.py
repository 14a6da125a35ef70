"""An adversary that finds what two embeddings share, so that they come to share less."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from oodml.train.reversal import reverse_gradient

HIDDEN = 512


class Adversary(nn.Module):
    """A regressor from one embedding to another, and how well the two fit.

    The regressor learns to make the loss small, which is to find what the embeddings have in
    common; their gradients are reversed, so the embeddings learn to have nothing in common. One
    backward trains both sides (arXiv:1909.11574, arXiv:2004.13458).
    """

    def __init__(self, source: int, target: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.regressor = nn.Sequential(
            nn.Linear(source, hidden), nn.ReLU(), nn.Linear(hidden, target)
        )

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        """Minus the mean squared product of target (B, d) and its regression from source (B, s).

        Both are unit vectors and the regression is brought to unit length. The mean goes over
        dimensions too: it is at most 0 and falls with 1/d^2 or so.
        """
        regressed = functional.normalize(self.regressor(reverse_gradient(source)), dim=1)
        return -(reverse_gradient(target) * regressed).square().mean()
