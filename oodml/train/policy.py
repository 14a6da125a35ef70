"""A policy over multiplicative changes of a histogram, learned by proximal policy optimisation."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

HIDDEN = 128


class Policy(nn.Module):
    """Two layers of 128 with ReLU, then the logits of every bin's actions and a value."""

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
    """A policy that draws one action a bin, and one step of PPO (arXiv:1707.06347) a transition.

    The target of the value is r + `discount` V(s'), its distance from V(s) the advantage: the code
    of arXiv:2003.11113 sets the raw metric as the target, which does not fit the reward that the
    advantage is made of. Actions are drawn from the old policy, whose probability stands below the
    ratio of PPO; it is copied from the new one after every `refresh` steps. Ratios are clipped bin
    by bin. The last state and action are kept in buffers.
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
        discount: float = 0.99,
        clip: float = 0.2,
    ) -> None:
        super().__init__()
        self.refresh, self.discount, self.clip = refresh, discount, clip
        self.policy = Policy(state_size, bins, actions)
        self.old = deepcopy(self.policy).requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.policy.parameters(), lr=learning_rate)
        self.register_buffer("state", torch.zeros(state_size))
        self.register_buffer("chosen", torch.zeros(bins, dtype=torch.int64))
        self.register_buffer("learned", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def act(self, state: Tensor) -> Tensor:
        """Draw the actions (bins,) of a state (S,), and remember both."""
        self.state.copy_(state)
        self.chosen.copy_(torch.multinomial(self.old(state)[0].exp(), 1).flatten())
        return self.chosen

    def learn(self, reward: float, state: Tensor) -> None:
        """One step from the reward of the last action and the state that it led to."""
        with torch.no_grad():
            target = reward + self.discount * self.policy(state)[1]
        value = self.policy(self.state)[1]
        advantage = (target - value).detach()
        loss = -surrogate(self.ratio(), advantage, self.clip).mean()
        loss = loss + 0.5 * (value - target).square()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.learned += 1
        if self.learned % self.refresh == 0:
            self.old.load_state_dict(self.policy.state_dict())

    def ratio(self) -> Tensor:
        """How much likelier (bins,) the last action of every bin is than under the old policy."""
        new = self.policy(self.state)[0].gather(1, self.chosen[:, None])
        old = self.old(self.state)[0].gather(1, self.chosen[:, None])
        ratio: Tensor = (new - old).exp().flatten()
        return ratio


def surrogate(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """min(ratio A, clipped ratio A), in the shape of `ratio` (arXiv:1707.06347)."""
    clipped = ratio.clamp(1 - clip, 1 + clip)
    return torch.minimum(ratio * advantage, clipped * advantage)
