"""docs/methods.md: every method of the registry, its paper and its defaults."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from oodml.train.published_protocols import PRESETS
from oodml.train.registry import MethodEntry, all_methods

COSTS = Path(__file__).parents[2] / "benchmarks" / "results" / "step_time.json"
_HEAD = """# Methods

{count} methods, written from the registry by `python docs/generate`; `oodml list methods` prints
the same names. Give hyperparameters as `-m margin:beta=0.6,margin=0.1`. A method
with a *base* works on another one's loss: `-m s2sd:base=multi_similarity,base.alpha=3`.

Without further words a run trains a linear head on cached features (`--train head`: {head}) or the
whole network on images (`--train all`: 1e-5 for the network, 5e-4 for a loss's own parameters,
weight decay 4e-4, 2 samples a class). What a paper prescribes for whole networks, and what it sets
for one family of data (`--recipe`, by itself for cub200, cars196 and sop with `--train all`),
stands below each table. Every setting that is typed wins over all of these.

*Heads* says what is trained and what retrieval uses of it, *needs* what a method asks for beyond a
labelled batch, *cost* the time of a step on cached features over that of the contrastive loss
(`benchmarks/results/step_time.md`, where whole networks are measured too).
"""

# The heading of methods with a file of their own.
_ALONE = "in a file of their own"


def page() -> str:
    """The whole page as Markdown."""
    entries = list(all_methods().values())
    files = Counter(entry.family for entry in entries)
    heading = {each: each if number > 1 else _ALONE for each, number in files.items()}
    entries.sort(key=lambda entry: (heading[entry.family], entry.name))
    head = "300 steps, batches of 28 classes x 4 samples, Adam at 1e-3, 1e-2 for a loss's own"
    parts = [_HEAD.format(count=len(entries), head=head)]
    for family, members in groupby(entries, key=lambda entry: heading[entry.family]):
        own = list(members)
        parts.append(_family(family, own))
    parts.append(_protocols())
    return "\n".join(parts)


def _family(family: str, entries: list[MethodEntry]) -> str:
    lines = [
        f"## {family.replace('_', ' ').capitalize()}",
        "",
        "| method | paper | what it is | heads | needs | cost | hyperparameters "
        "| source of the defaults |",
        "|---|---|---|---|---|---:|---|---|",
    ]
    costs = json.loads(COSTS.read_text())
    lines += [
        f"| `{e.name}` | {e.paper} | {e.summary} | {e.heads if e.trains else '-'} | {e.needs} "
        f"| {costs.get(e.name, '-')} | {_values(e.hyperparameters)} | {e.source} |"
        for e in entries
    ]
    notes = [note for entry in entries for note in _notes(entry)]
    return "\n".join([*lines, "", *notes, ""]) if notes else "\n".join([*lines, ""])


def _notes(entry: MethodEntry) -> list[str]:
    notes = []
    if entry.settings:
        notes.append(f"- `{entry.name}` always: {_values(entry.settings)}")
    if entry.network:
        notes.append(f"- `{entry.name}` with `--train all`: {_values(entry.network)}")
    for family, recipe in entry.recipes.items():
        values = _values({**recipe.hyperparameters, **recipe.network})
        notes.append(f"- `{entry.name}` on {family}: {values or 'as above'} ({recipe.source})")
    return notes


def _values(given: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {getattr(value, 'name', value)}" for name, value in given.items())


def _protocols() -> str:
    lines = ["## Published protocols", ""]
    for name, preset in PRESETS.items():
        lines += [f"`--protocol {name}` ({preset.source}) sets {_values(preset.settings)}.", ""]
        lines += [f"- on {family}: {_values(own)}" for family, own in preset.families.items()]
        lines += [
            f"- `{method}`{' on ' + family if family else ''}: {_values(values)}"
            for table in (preset.hyperparameters, preset.methods)
            for method, tuned in table.items()
            for family, values in tuned.items()
        ]
        lines += [f"- {note}" for note in preset.notes] + [""]
    return "\n".join(lines)
