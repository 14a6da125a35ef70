"""`oodml plot --pair-weights`: what losses did to pairs, from the runs of one rung."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from oodml.errors import UsageError

if TYPE_CHECKING:
    from oodml.eval.figures.pair_weights import BinnedWeights
    from oodml.runs.record import RunRecord
    from oodml.splits.ladder import Ladder


def draw_pair_weights(
    directory: Path, ladder: Ladder, records: Sequence[RunRecord], rung: int, path: Path
) -> None:
    """Write the chart of the pair weights of every method's first seed on one rung."""
    from oodml.eval.figures.pair_weights import plot_pair_weights

    if not 0 <= rung < len(ladder.rungs):
        raise UsageError(f"rung {rung}: this ladder has rungs 0 to {len(ladder.rungs) - 1}.")
    split = ladder.rungs[rung]
    own = [record for record in records if record.spec.data.split == split.id]
    title = f"weights of pairs at the end of training, rung {rung} (FID {split.fid:.1f})"
    plot_pair_weights(weights_of(directory, own), path, title=title)


def weights_of(directory: Path, records: Sequence[RunRecord]) -> dict[str, BinnedWeights]:
    """The kept pair weights by label, of the lowest seed that has some."""
    from oodml.eval.figures.pair_weights import FILE, BinnedWeights
    from oodml.runs.store import Store

    store = Store(directory)
    found: dict[str, BinnedWeights] = {}
    for record in sorted(records, key=lambda each: (each.label, each.spec.seed)):
        for path in sorted(store.run_directory(record.id).rglob(FILE)):
            found.setdefault(record.label, BinnedWeights.load(path))
    return found
