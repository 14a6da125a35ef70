"""Counts per module and the survivors of a measurement: `python tests/mutation/table.py FOLDER`.

With `--floor SHARE` it fails, after printing, when fewer of the mutants tried were noticed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from differences import Mutant, mutants_of

LISTED = Path(__file__).with_name("survivors.md")
# An endless mutant is noticed too; one that ran out of time on the clock counts as neither.
NOTICED, UNNOTICED = ("killed", "endless"), ("survived", "no tests")
VERDICTS = (*NOTICED, *UNNOTICED, "stuck")


def table(mutants: Sequence[Mutant], verdicts: dict[str, str]) -> str:
    """Per module: mutants made, of mere wording, tried, and what became of them."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for mutant in mutants:
        count = counts[mutant.module]
        count["made"] += 1
        count["wording"] += mutant.is_wording
        if mutant.name in verdicts:
            count["tried"] += 1
            count[verdicts[mutant.name]] += 1
    heads = ("made", "wording", "tried", *VERDICTS)
    lines = [f"| module | {' | '.join(heads)} |", "| --- |" + " ---: |" * len(heads)]
    everything: Counter[str] = sum(counts.values(), Counter())
    for module, count in [*sorted(counts.items()), ("together", everything)]:
        lines.append(f"| {module} | {' | '.join(str(count[head]) for head in heads)} |")
    return "\n".join(lines)


def listed() -> set[str]:
    """The keys of the survivors that were looked at and may stay."""
    return set(re.findall(r"`([0-9a-f]{8})`", LISTED.read_text()))


def share_noticed(verdicts: Sequence[str]) -> float:
    """The part of the mutants tried that a test noticed."""
    noticed = sum(verdict in NOTICED for verdict in verdicts)
    unnoticed = sum(verdict in UNNOTICED for verdict in verdicts)
    return noticed / max(noticed + unnoticed, 1)


def _shown(mutants: Sequence[Mutant], title: str) -> str:
    lines = [f"{title}: {len(mutants)}"]
    for mutant in mutants:
        lines += [f"`{mutant.key}` {mutant.function}", *(f"    {line}" for line in mutant.changed)]
    return "\n".join(lines)


def main(folder: Path, floor: float) -> None:
    """Print the table and the survivors that are not listed; SystemExit below the floor."""
    verdicts = {name: verdict for name, verdict, _ in _lines(folder / "verdicts.jsonl")}
    mutants, known = mutants_of(folder), listed()
    tried = [mutant for mutant in mutants if mutant.name in verdicts]
    survived = [mutant for mutant in tried if verdicts[mutant.name] in UNNOTICED]
    fell = [m for m in tried if verdicts[m.name] in NOTICED and m.key in known]
    share = share_noticed(list(verdicts.values()))
    stale = sorted(known - {mutant.key for mutant in mutants})
    sys.stdout.write(
        f"{table(mutants, verdicts)}\n\n"
        f"noticed {share:.1%} of {len(tried)} mutants tried; {len(survived)} survived, of which"
        f" {sum(mutant.key in known for mutant in survived)} are listed in {LISTED.name}\n\n"
        f"{_shown([m for m in survived if m.key not in known], 'survivors not listed')}\n\n"
        f"{_shown(fell, 'listed, but noticed now')}\n\n"
        f"listed, but made no more: {' '.join(stale) or 'none'}\n"
    )
    if share < floor:
        raise SystemExit(f"{share:.1%} noticed; the floor is {floor:.1%}.")


def _lines(path: Path) -> list[tuple[str, str, float]]:
    return [tuple(json.loads(line)) for line in path.read_text().splitlines()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--floor", type=float, default=0.0, help="the least share noticed, 0 to 1")
    given = parser.parse_args()
    main(given.folder.resolve(), given.floor)
