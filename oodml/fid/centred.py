"""One sample about its own mean, read in blocks so that float64 copies stay small."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from oodml.fid.arrays import Matrix, Real

BLOCK_ROWS = 4096
EPSILON = float(np.finfo(np.float64).eps)


class CentredSample:
    """A sample (n, d) with its mean, in two parts, and the variances of its coordinates.

    `base + offset` is the mean; kept apart, a mean far larger than the spread costs no digits.
    With `with_covariance` the covariance is summed in the same pass as the rest.
    """

    def __init__(self, values: Real, with_covariance: bool = False) -> None:
        self.values = values
        self.count = len(values)
        self.base: Matrix = values.mean(axis=0, dtype=np.float64)
        self.offset: Matrix = np.zeros_like(self.base)
        self._covariance: Matrix | None = None
        total, squares = np.zeros_like(self.base), np.zeros_like(self.base)
        scatter = np.zeros((len(self.base),) * 2) if with_covariance else None
        for block in self.blocks():
            total += block.sum(axis=0)
            if scatter is None:
                squares += np.einsum("ij,ij->j", block, block)
            else:
                scatter += block.T @ block
        self.offset = total / self.count
        if scatter is not None:
            # The root of the count on both factors keeps the product symmetric to the last bit.
            shift = self.offset * np.sqrt(self.count)
            scatter -= np.outer(shift, shift)
            squares = scatter.diagonal().copy()
            scatter /= self.count - 1
            self._covariance = scatter
        else:
            squares -= self.count * self.offset**2
        # Less than this is what rounding leaves of a constant.
        residue = self.count * (4 * EPSILON * self.base) ** 2
        self.variances: Matrix = np.where(squares <= residue, 0.0, squares / (self.count - 1))

    def blocks(self, keep: Any = slice(None)) -> Iterator[Matrix]:
        """The centred rows in float64, a few thousand at a time, of the coordinates `keep`."""
        base, offset = self.base[keep], self.offset[keep]
        moved = bool(offset.any())
        for start in range(0, self.count, BLOCK_ROWS):
            block = self.values[start : start + BLOCK_ROWS]
            centred: Matrix = np.subtract(block[:, keep], base, dtype=np.float64)
            if moved:
                centred -= offset
            yield centred

    def factor(self, keep: Any) -> Matrix:
        """F (n, kept) with F' F = the unbiased covariance."""
        rows: Matrix = np.concatenate(list(self.blocks(keep)))
        rows /= np.sqrt(self.count - 1)
        return rows

    def covariance(self, keep: Any) -> Matrix:
        """The unbiased covariance (kept, kept), exactly symmetric."""
        if self._covariance is not None:
            return self._covariance if np.all(keep) else self._covariance[np.ix_(keep, keep)]
        scatter = np.zeros((int(np.count_nonzero(keep)),) * 2)
        for block in self.blocks(keep):
            scatter += block.T @ block
        scatter /= self.count - 1
        return scatter

    def triangle(self, keep: Any) -> Matrix:
        """R, upper triangular, with R' R = the covariance: by QR, which squares no condition."""
        rows: Matrix = np.zeros((0, int(np.count_nonzero(keep))))
        for block in self.blocks(keep):
            rows = np.asarray(np.linalg.qr(np.concatenate([rows, block]), mode="r"))
        rows /= np.sqrt(self.count - 1)
        return rows
