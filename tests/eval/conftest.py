"""Rows of a summary from a matrix, for the tests of what is said about them."""

import numpy as np

from oodml.eval.statistics.curves import SummaryRow
from oodml.eval.statistics.intervals import t_interval
from oodml.eval.statistics.series import Series

FIDS = (10.0, 20.0, 50.0, 110.0)


def rows(values, method="margin", fids=FIDS):
    """Rows of a (seeds, rungs) matrix; NaN is a missing run."""
    found = []
    for rung, fid in enumerate(fids):
        own = [(seed, v) for seed, v in enumerate(np.asarray(values)[:, rung]) if not np.isnan(v)]
        if own:
            seeds, numbers = zip(*own, strict=True)
            mean, low, high = t_interval(numbers)
            found.append(
                SummaryRow(
                    Series(method), rung, "s", fid, len(own), mean, low, high, numbers, seeds
                )
            )
    return found
