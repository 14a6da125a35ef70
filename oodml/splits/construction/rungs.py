"""Which splits of a trajectory become rungs: even spacing, given FIDs, or given steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from oodml.errors import UsageError
from oodml.fid.matrix_root import Matrix
from oodml.splits.ladder import BuildSettings


def choose_rungs(fids: Sequence[float], start: int, settings: BuildSettings) -> list[int]:
    """The indices of rising `fids` that `settings` ask for; `start` is that of the start split.

    Raises `UsageError` for targets out of reach, which it names with the range that is in reach.
    """
    if settings.fids:
        return choose_nearest(fids, settings.fids)
    if settings.steps:
        return choose_steps(fids, start, settings.steps)
    return choose_evenly(fids, settings.rungs)


def choose_evenly(fids: Sequence[float], rungs: int) -> list[int]:
    """The `rungs` indices of rising `fids`, first and last among them, nearest to even spacing.

    Minimises the summed distance to evenly spaced targets over all increasing choices.
    Raises `UsageError` if there are fewer FIDs than rungs.
    """
    if rungs > len(fids):
        fewer = f"rungs={len(fids)} at most, or a smaller swap_size"
        advice = fewer if len(fids) > 1 else "classes that differ"
        raise UsageError(
            f"{rungs} rungs were asked for, but the trajectory has only {len(fids)} distinct "
            f"splits from FID {fids[0]:.4g} to {fids[-1]:.4g}; give {advice}."
        )
    values = np.asarray(fids)
    targets = np.linspace(values[0], values[-1], rungs)
    return _cheapest(np.abs(targets[:, None] - values[None, :]))


def choose_nearest(fids: Sequence[float], targets: Sequence[float]) -> list[int]:
    """The indices of rising `fids` nearest to the sorted `targets`, all different.

    Raises `UsageError` that names the targets outside the range, or if splits are too few.
    """
    values, wanted = np.asarray(fids), np.sort(np.asarray(targets, dtype=np.float64))
    reachable = f"the trajectory reaches FID {values[0]:.4g} to {values[-1]:.4g}"
    outside = [f"{target:g}" for target in wanted if not values[0] <= target <= values[-1]]
    if outside:
        raise UsageError(f"FIDs out of reach: {', '.join(outside)}; {reachable}.")
    if len(wanted) > len(values):
        raise UsageError(
            f"{len(wanted)} FIDs were asked for; {reachable} in only {len(values)} distinct splits."
        )
    return _cheapest(np.abs(wanted[:, None] - values[None, :]))


def choose_steps(fids: Sequence[float], start: int, steps: Sequence[int]) -> list[int]:
    """The indices `start + step` for the sorted `steps`; negative ones are easier than the start.

    Raises `UsageError` that names the steps the trajectory does not have.
    """
    first, last = -start, len(fids) - 1 - start
    outside = [str(step) for step in sorted(set(steps)) if not first <= step <= last]
    if outside:
        raise UsageError(
            f"steps out of reach: {', '.join(outside)}; the trajectory has steps {first} to {last} "
            f"(0 is the start split, FID {fids[0]:.4g} to {fids[-1]:.4g})."
        )
    return [start + step for step in sorted(set(steps))]


def _cheapest(cost: Matrix) -> list[int]:
    """Increasing columns, one a row, of the least summed cost."""
    best = cost[0]
    came_from = []
    for row in cost[1:]:
        least = np.minimum.accumulate(best)
        came_from.append([int(np.argmin(best[:i])) if i else 0 for i in range(len(best))])
        best = np.concatenate([[np.inf], least[:-1]]) + row
    chosen = [int(np.argmin(best))]
    for previous in reversed(came_from):
        chosen.append(previous[chosen[-1]])
    return chosen[::-1]
