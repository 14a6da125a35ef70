"""The published construction (arXiv:2107.09562): two pairs of classes a step, from one ranking."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from oodml.splits.construction.state import Sides, State, Units
from oodml.splits.construction.walk import (
    EASIER,
    HARDER,
    Accept,
    by_nearness,
    most_removable,
    moves,
)

PAIRS_A_STEP = 2
# Each published trajectory holds one split more: the one that it begins from.
HARDER_STEPS, EASIER_STEPS, REMOVAL_STEPS = 24, 14, 34
# How many of the latest arrivals on a side may not leave it yet.
HARDER_MEMORY, EASIER_MEMORY = 5, 30


@dataclass(frozen=True)
class _Memory:
    """The arrivals on each side, in order; the latest `length` of them may not leave."""

    length: int
    train: tuple[int, ...] = ()
    test: tuple[int, ...] = ()

    def after(self, to_test: Units, to_train: Units) -> _Memory:
        return _Memory(
            self.length, (*self.train, *to_train.tolist()), (*self.test, *to_test.tolist())
        )


def published_easier(start: Sides, pairs: int, accept: Accept) -> None:
    """Walk towards easier splits as published; `accept` gets every split with a new lowest FID."""
    _swap(start, pairs, EASIER_STEPS, EASIER, _Memory(EASIER_MEMORY), accept)


def published_harder(start: Sides, pairs: int, min_classes: int, accept: Accept) -> str:
    """Walk towards harder splits as published; `accept` gets every split with a new highest FID.

    Swaps are made whether FID rises or not, as in the paper; splits below the best FID so far are
    not recorded. Then, from the hardest recorded split and with an empty memory, each step tries a
    swap and, if FID does not rise, removes the same classes instead. Returns the numbers of steps
    in words.
    """
    sides, tried = _swap(start, pairs, HARDER_STEPS, HARDER, _Memory(HARDER_MEMORY), accept)
    memory, highest = _Memory(HARDER_MEMORY), sides.fid
    swaps = removals = 0
    ended = ""
    for _ in range(REMOVAL_STEPS):
        to_test, to_train = _picks(sides, pairs, HARDER, memory)
        if not len(to_test):
            ended = "; no class was free to move"
            break
        swapped = sides.exchange(to_test, to_train)
        if moves(sides.fid, swapped.fid, HARDER):
            memory = memory.after(to_test, to_train)
            sides, kind = swapped, "swap"
            swaps += 1
        else:
            allowed = most_removable(sides, pairs, min_classes)
            if not allowed:
                ended = f"; min classes {min_classes} reached"
                break
            sides, kind = sides.without(to_test[:allowed], to_train[:allowed]), "removal"
            removals += 1
        if moves(highest, sides.fid, HARDER):
            highest = sides.fid
            accept(State.of(kind, sides))
    return f"{tried} swaps, then {removals} removals and {swaps} swaps{ended}"


def _swap(
    sides: Sides, pairs: int, steps: int, sign: int, memory: _Memory, accept: Accept
) -> tuple[Sides, int]:
    """The split with the highest FID (lowest for `sign` -1), and the number of steps made."""
    furthest, made = sides, 0
    for made in range(1, steps + 1):
        to_test, to_train = _picks(sides, pairs, sign, memory)
        if not len(to_test):
            return furthest, made - 1
        memory = memory.after(to_test, to_train)
        sides = sides.exchange(to_test, to_train)
        if moves(furthest.fid, sides.fid, sign):
            furthest = sides
            accept(State.of("swap" if sign == HARDER else "easier", sides))
    return furthest, made


def _picks(sides: Sides, pairs: int, sign: int, memory: _Memory) -> tuple[Units, Units]:
    """The k-th pick is the first free class from rank k on, both sides ranked once."""
    train, test = by_nearness(sides, sign)
    picked = []
    for ranked, arrived in ((train, memory.train), (test, memory.test)):
        taken: list[int] = []
        for rank in range(min(pairs, len(ranked))):
            recent = (*arrived, *taken)[-memory.length :]
            held = {*recent, *taken}
            free = next((i for i in ranked[rank:].tolist() if i not in held), None)
            if free is not None:
                taken.append(free)
        picked.append(np.array(taken, dtype=np.int64))
    count = min(len(taken) for taken in picked)
    return picked[0][:count], picked[1][:count]
