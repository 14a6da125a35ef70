"""Ahead: the steps to come of a walk, measured side by side while those before are decided on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from oodml.fid.side_by_side import worker_count
from oodml.splits.sides import Sides

# The sides that a step of so many units leads to, or None where there is no such step.
Propose = Callable[[Sides, int], Sides | None]
# Handing small distances to a thread costs more than it gains.
FEWEST_POINTS = 256


class Ahead:
    """Candidates of a walk, each of which takes for granted that those before it are accepted.

    They nearly always are; where one is not, what was measured beyond it is thrown away. What a
    candidate is, and its distance, does not depend on how many are under way.
    """

    def __init__(self, propose: Propose) -> None:
        self._propose = propose
        self._waiting: deque[Sides] = deque()
        self._tail: Sides | None = None
        self._from: tuple[Sides, int] | None = None

    def candidate(self, sides: Sides, size: int) -> Sides | None:
        """The sides after a step of `size` units from `sides`, None if there is no such step."""
        if self._from is None or self._from[0] is not sides or self._from[1] != size:
            self.drop()
            self._tail = sides
        self._fill(size, _depth(sides))
        if not self._waiting:
            return None
        candidate = self._waiting.popleft()
        self._from = candidate, size
        return candidate

    def drop(self) -> None:
        """Forget the candidates, which a step that is not taken makes worthless."""
        for candidate in self._waiting:
            candidate.measurement.cancel()
        self._waiting.clear()

    def _fill(self, size: int, depth: int) -> None:
        while self._tail is not None and len(self._waiting) < depth:
            self._tail = self._propose(self._tail, size)
            if self._tail is not None:
                if depth > 1:
                    self._tail.measurement  # noqa: B018
                self._waiting.append(self._tail)


def _depth(sides: Sides) -> int:
    """One more than there are workers, so that none waits for the next candidate to be made."""
    workers = worker_count()
    points = min(int(sides.pool.sizes[side].sum()) for side in (sides.train, sides.test))
    return 1 if workers == 1 or points < FEWEST_POINTS else workers + 1
