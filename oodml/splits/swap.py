"""One swap: the classes of each side that look most like the other side change places."""

from __future__ import annotations

from oodml.splits.sides import Classes, Sides


def swap_step(sides: Sides, size: int) -> tuple[Sides, Classes, Classes]:
    """The sides after `size` classes of each side changed places, and the classes that moved.

    Returns (sides, classes that went to test, classes that went to train). The rule of
    arXiv:2107.09562: the train classes nearest to the test mean against the test classes
    nearest to the train mean, both ranked once for the whole step.
    """
    train_ranked, test_ranked = sides.nearest_to_other()
    to_test, to_train = train_ranked[:size], test_ranked[:size]
    return sides.exchange(to_test, to_train), to_test, to_train
