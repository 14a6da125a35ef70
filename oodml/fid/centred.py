"""One sample about its own mean, read in blocks so that float64 copies stay small."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from oodml.fid.arrays import Matrix, Real

BLOCK_ROWS = 4096


class CentredSample:
    """A sample (n, d) with its mean, in two parts, and the variances of its coordinates.

    `base + offset` is the mean; kept apart, a mean far larger than the spread costs no digits.
    """

    def __init__(self, values: Real) -> None:
        self.values = values
        self.count = len(values)
        self.base = values.mean(axis=0, dtype=np.float64)
        self.offset = np.zeros_like(self.base)
        self.offset = sum(block.sum(axis=0) for block in self.blocks()) / self.count
        squares = sum(np.einsum("ij,ij->j", block, block) for block in self.blocks())
        self.variances: Matrix = squares / (self.count - 1)

    def blocks(self, keep: Any = slice(None)) -> Iterator[Matrix]:
        """The centred rows in float64, a few thousand at a time, of the coordinates `keep`."""
        base, offset = self.base[keep], self.offset[keep]
        for start in range(0, self.count, BLOCK_ROWS):
            block = self.values[start : start + BLOCK_ROWS][:, keep].astype(np.float64)
            block -= base
            block -= offset
            yield block

    def factor(self, keep: Any) -> Matrix:
        """F (n, kept) with F' F = the unbiased covariance."""
        rows: Matrix = np.concatenate(list(self.blocks(keep)))
        rows /= np.sqrt(self.count - 1)
        return rows

    def covariance(self, keep: Any) -> Matrix:
        """The unbiased covariance (kept, kept), exactly symmetric."""
        kept = int(np.count_nonzero(keep))
        scatter = np.zeros((kept, kept))
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
