"""Counts per module and the survivors of a measurement: `python tests/mutation/table.py FOLDER`."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from differences import Mutant, mutants_of

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


def share_noticed(verdicts: Sequence[str]) -> float:
    """The part of the mutants tried that a test noticed."""
    noticed = sum(verdict in NOTICED for verdict in verdicts)
    unnoticed = sum(verdict in UNNOTICED for verdict in verdicts)
    return noticed / max(noticed + unnoticed, 1)


def _shown(mutants: Sequence[Mutant], title: str) -> str:
    lines = [f"{title}: {len(mutants)}"]
    for mutant in mutants:
        lines += [f"{mutant.function}", *(f"    {line}" for line in mutant.changed)]
    return "\n".join(lines)


def main(folder: Path) -> None:
    """Print the table, and every mutant that no test noticed with the lines that it changes."""
    verdicts = {name: verdict for name, verdict, _ in _lines(folder / "verdicts.jsonl")}
    mutants = mutants_of(folder)
    survived = [mutant for mutant in mutants if verdicts.get(mutant.name) in UNNOTICED]
    sys.stdout.write(
        f"{table(mutants, verdicts)}\n\n"
        f"noticed {share_noticed(list(verdicts.values())):.1%} of {len(verdicts)} mutants tried\n\n"
        f"{_shown(survived, 'survivors')}\n"
    )


def _lines(path: Path) -> list[tuple[str, str, float]]:
    return [tuple(json.loads(line)) for line in path.read_text().splitlines()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    main(parser.parse_args().folder.resolve())
