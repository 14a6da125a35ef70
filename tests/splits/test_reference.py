"""The matched reference: its halves, and which classes are trained on for each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oodml.errors import UsageError
from oodml.splits.ladder import Ladder
from oodml.splits.reference import check_reference, halves_of, null_split
from oodml.splits.split import Split

SPLIT = Split(tuple(f"t{i:02}" for i in range(30)), tuple(f"s{i:02}" for i in range(21)))
# Groups of 6, 6, 6, 6 and 6 training classes, and of 3 test classes each.
GROUPS = {name: f"g{int(name[1:]) // (6 if name[0] == 't' else 3)}" for name in (
    *SPLIT.train_classes, *SPLIT.test_classes)}  # fmt: skip


@pytest.mark.parametrize("groups", [None, GROUPS])
@pytest.mark.parametrize("draw", [0, 2])
def test_both_sides_are_tested_on_the_same_halves_after_equally_many_other_classes(
    draw: int, groups: dict[str, str] | None
) -> None:
    own = null_split(SPLIT, draw, groups=groups) if draw else SPLIT
    halves = {
        side: halves_of(SPLIT, 3, side, null_draw=draw, groups=groups)
        for side in ("shifted", "matched", "nothing")
    }
    shifted, matched = halves["shifted"], halves["matched"]
    for one, other in zip(shifted, matched, strict=True):
        assert one.test_classes == other.test_classes
        assert len(one.train_classes) == len(other.train_classes)
        assert set(one.train_classes) <= set(own.train_classes)
        assert set(other.train_classes) <= set(own.test_classes) - set(one.test_classes)
    first, second = (set(half.test_classes) for half in shifted)
    assert first | second == set(own.test_classes) and not first & second
    assert len(shifted[0].train_classes) == min(len(first), len(second))
    assert not set(shifted[0].train_classes) & set(shifted[1].train_classes)
    assert halves["nothing"] == shifted


def test_halves_follow_from_seed_and_split_and_from_nothing_else() -> None:
    turned = Split(SPLIT.train_classes[::-1], SPLIT.test_classes[::-1])
    assert halves_of(turned, 1, "matched") == halves_of(SPLIT, 1, "matched")
    assert halves_of(SPLIT, 1, "matched") != halves_of(SPLIT, 2, "matched")
    draws = {null_split(SPLIT, draw).id for draw in (1, 2, 3)}
    assert len(draws) == 3 and SPLIT.id not in draws
    assert len(null_split(SPLIT, 1).train_classes) == len(SPLIT.train_classes)


def test_too_few_training_classes_are_shared_between_the_halves_as_little_as_possible() -> None:
    few = replace(SPLIT, train_classes=SPLIT.train_classes[:15])
    one, other = (set(half.train_classes) for half in halves_of(few, 0, "shifted"))
    assert len(one) == len(other) == 10 and len(one & other) == 5
    fewer = replace(SPLIT, train_classes=SPLIT.train_classes[:4])
    for side in ("shifted", "matched"):
        assert {len(half.train_classes) for half in halves_of(fewer, 0, side)} == {4}


def test_groups_stay_whole_in_the_halves_and_all_but_the_last_in_training() -> None:
    for side in ("shifted", "matched"):
        one, other = halves_of(SPLIT, 5, side, groups=GROUPS)
        tested = [{GROUPS[name] for name in half.test_classes} for half in (one, other)]
        assert not tested[0] & tested[1]
    first, _ = halves_of(SPLIT, 5, "shifted", groups=GROUPS)
    counts = dict.fromkeys(GROUPS.values(), 0)
    for name in first.train_classes:
        counts[GROUPS[name]] += 1
    assert sum(0 < count < 6 for count in counts.values()) <= 1


def test_what_allows_no_reference_is_refused(ladder: Ladder) -> None:
    with pytest.raises(UsageError, match="4 or more"):
        halves_of(replace(SPLIT, test_classes=("a", "b", "c")), 0, "matched")
    with pytest.raises(UsageError, match="one group"):
        halves_of(SPLIT, 0, "matched", groups=dict.fromkeys(GROUPS, "all"))
    with pytest.raises(UsageError, match="'mached'"):
        halves_of(SPLIT, 0, "mached")
    check_reference(ladder, [0, 1, 2])
    # A test class of rung 1 that rung 0 trains on.
    single = min({*ladder.rungs[1].test_classes} - {*ladder.rungs[0].test_classes})
    sizes = {name: 1 if name == single else 9 for name in ladder.class_sizes}
    poor = replace(ladder, class_sizes=sizes)
    with pytest.raises(UsageError) as caught:
        check_reference(poor, [1])
    usable = [number for number, rung in enumerate(ladder.rungs) if single not in rung.test_classes]
    assert usable and usable[0] == 0
    assert "rung 1 " in str(caught.value)
    assert str(caught.value).endswith(f"used: {', '.join(map(str, usable))}.")
