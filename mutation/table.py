"""Counts per module and the survivors of a measurement: `python mutation/table.py FOLDER`."""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from pathlib import Path

from differences import is_wording, mutants_of

VERDICTS = ("killed", "endless", "survived", "no tests")


def table(folder: Path) -> str:
    """Per module: mutants made, of mere wording, tried, and what became of them."""
    verdicts = dict(json.loads(line) for line in (folder / "verdicts.jsonl").open())
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for name, (module, changed) in mutants_of(folder).items():
        counts[module]["made"] += 1
        counts[module]["wording"] += is_wording(changed)
        if name in verdicts:
            counts[module]["tried"] += 1
            counts[module][verdicts[name]] += 1
    heads = ("made", "wording", "tried", *VERDICTS)
    lines = [f"| module | {' | '.join(heads)} |", "| --- |" + " ---: |" * len(heads)]
    everything: Counter[str] = sum(counts.values(), Counter())
    for module, count in [*sorted(counts.items()), ("together", everything)]:
        lines.append(f"| {module} | {' | '.join(str(count[head]) for head in heads)} |")
    return "\n".join(lines)


def survivors(folder: Path) -> str:
    """What each mutant changes that no test noticed."""
    verdicts = dict(json.loads(line) for line in (folder / "verdicts.jsonl").open())
    found = mutants_of(folder)
    return "\n".join(
        "\n".join([name, *(f"    {line}" for line in found[name][1])])
        for name, verdict in sorted(verdicts.items())
        if verdict in ("survived", "no tests")
    )


if __name__ == "__main__":
    given = Path(sys.argv[1]).resolve()
    sys.stdout.write(f"{table(given)}\n\n{survivors(given)}\n")
