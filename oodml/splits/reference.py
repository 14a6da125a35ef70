"""The matched reference of a split: halves of its test classes, and what is trained on for each.

A method that is trained on other classes of the test side ("matched") and one that is trained on
equally many of the training side ("shifted") are measured on the same half of the test classes, so
that their difference is what the shift costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

from oodml.errors import UsageError, unknown_name
from oodml.seeding import generator
from oodml.splits.ladder import Ladder
from oodml.splits.split import Split

TRAINED_ON = ("shifted", "matched", "nothing")
# Two test classes in every half, so that a query has a wrong answer.
_FEWEST = 4


def halves_of(
    split: Split,
    seed: int,
    trained_on: str,
    *,
    null_draw: int = 0,
    groups: Mapping[str, str] | None = None,
) -> tuple[Split, Split]:
    """The two splits that a reference run trains and measures on; their test classes are halves.

    The test classes are halved at random by `seed` and the split's id. With m = the number of
    classes of the smaller half, or of the training classes if that is less, a half is tested after
    training on m classes of the other half (`trained_on` "matched") or on m training classes of the
    split ("shifted"): other ones for the second half if there are 2m, else as many others as there
    are. For "nothing" they are those of "shifted". With `null_draw` i > 0, all classes of the split
    are first divided at random into sides of the same sizes, otherwise for every i.

    With `groups`, the group of every class, whole groups go to the half that is smaller so far, and
    training classes are taken group after group; the last group of them is cut, as equal numbers of
    training classes matter more. Raises `UsageError` for fewer than 4 test classes, or a single
    group of them.
    """
    if trained_on not in TRAINED_ON:
        raise unknown_name("choice of training classes", trained_on, TRAINED_ON)
    if null_draw:
        split = null_split(split, null_draw, groups=groups)
    if len(split.test_classes) < _FEWEST:
        raise UsageError(
            f"split {split.id} has {len(split.test_classes)} test classes; a matched reference "
            f"needs {_FEWEST} or more."
        )
    random = generator(seed, "reference", split.id)
    first, second = _halves(_by_group(split.test_classes, groups, random))
    if not second:
        raise UsageError(
            f"all test classes of split {split.id} are of one group; a matched reference of a "
            "ladder that was built by group needs two groups or more on the test side."
        )
    train = [*chain(*_by_group(split.train_classes, groups, random))]
    number = min(len(first), len(second), len(train))
    if trained_on == "matched":
        return Split(second[:number], first), Split(first[:number], second)
    other = train[number : 2 * number] if len(train) >= 2 * number else train[-number:]
    return Split(tuple(train[:number]), first), Split(tuple(other), second)


def null_split(split: Split, draw: int, *, groups: Mapping[str, str] | None = None) -> Split:
    """A random split of all classes of `split`, as many on each side; another for every draw."""
    random = generator(draw, "reference null", split.id)
    every = (*split.train_classes, *split.test_classes)
    order = [*chain(*_by_group(sorted(every), groups, random))]
    cut = len(split.train_classes)
    return Split(tuple(order[:cut]), tuple(order[cut:]))


def check_reference(ladder: Ladder, rungs: Sequence[int]) -> None:
    """`UsageError` naming the rungs that allow a matched reference, if one of `rungs` does not.

    It needs 4 test classes and two images of each, as far as the ladder knows their numbers.
    """
    sizes = ladder.class_sizes
    usable = [
        number
        for number, split in enumerate(ladder.rungs)
        if len(split.test_classes) >= _FEWEST
        and all(sizes.get(name, 0) != 1 for name in split.test_classes)
    ]
    lacking = sorted(set(rungs) - set(usable))
    if lacking:
        named = ", ".join(map(str, usable)) or "none"
        raise UsageError(
            f"a matched reference needs {_FEWEST} test classes and two images of each, which rung "
            f"{lacking[0]} has not; rungs that can be used: {named}."
        )


def _by_group(
    names: Sequence[str], groups: Mapping[str, str] | None, random: np.random.Generator
) -> list[list[str]]:
    """The classes in random order, those of a group together; without groups each is one."""
    members: dict[str, list[str]] = {}
    for name in names:
        members.setdefault(groups[name] if groups else name, []).append(name)
    parts = [members[group] for group in sorted(members)]
    order = random.permutation(len(parts)).tolist()
    return [_shuffled(parts[place], random) for place in order]


def _shuffled(names: list[str], random: np.random.Generator) -> list[str]:
    if len(names) == 1:
        return names
    return [names[place] for place in random.permutation(len(names)).tolist()]


def _halves(parts: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Every part goes to the half with fewer classes so far, the first one if both have as many."""
    first: list[str] = []
    second: list[str] = []
    for part in parts:
        (first if len(first) <= len(second) else second).extend(part)
    return tuple(first), tuple(second)
