"""Which queries of a tile need a look at all: found by products in bfloat16, of bounded error.

In most tiles hardly a query has a sample as near as one of its positives. Products of rounded
vectors show that for certain, several times faster than float32; nothing is counted by them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from oodml.eval.tally import Tally
from oodml.eval.tiles import Side, negatives_only

# Both vectors are rounded, and so is their product: by 2^-8 of their lengths, which are one, each
# time. The float32 sums in between are off by far less than the rest (Higham 2002, section 3.1).
_ROUNDING = 3.1 * 2.0**-8
_MOST_DIMENSIONS = 1 << 16


def can_screen(side: Side) -> bool:
    """Whether bfloat16 is quicker here than float32, and its error is bounded as stated."""
    vectors = side.vectors
    on_cpu = vectors.device.type == "cpu"
    return on_cpu and vectors.shape[1] < _MOST_DIMENSIONS and has_arithmetic()


def has_arithmetic() -> bool:
    """Whether the processor multiplies in bfloat16 itself."""
    supported: bool = torch.cpu._is_avx512_bf16_supported()
    return supported


def coarse_tile(rows: Side, columns: Side) -> Tensor:
    """Similarities (r, c) in bfloat16; -inf between samples of one class."""
    similarity = rows.vectors.bfloat16() @ columns.vectors.bfloat16().T
    return negatives_only(similarity, rows.place, columns.place)


def reached(tally: Tally, nearest: Tensor) -> Tensor:
    """The rows of a tally that a tile may change, where `nearest` (b,) is each row's largest
    similarity in the coarse tile."""
    wanted = tally.above < tally.limit
    near = nearest.float()[:, None] >= tally.threshold - _ROUNDING
    return (wanted & near).any(1).nonzero().squeeze(1)
