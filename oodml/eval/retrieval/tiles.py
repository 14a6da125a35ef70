"""Samples sorted by class, and tiles of their similarities in float32 or float64."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from oodml.eval.retrieval.faiss_threads import faiss_on
from oodml.eval.retrieval.nearest import normalized
from oodml.seeding import generator

_SLICE = 4096
_NONE = float("-inf")


@dataclass(frozen=True, eq=False)
class Samples:
    """Vectors (n, d) float32 and their labels (n,) int64."""

    vectors: Tensor
    labels: Tensor


@dataclass(frozen=True, eq=False)
class Side:
    """Queries or gallery in the order of their classes, small classes first.

    `vectors` (n, d) have length one (or zero); `place` (n,) int64 is the class's place in that
    order and rises; `order` (n,) int64 gives each row's index before sorting. Class c fills the
    rows `starts[c]` to `starts[c + 1]`. `rounded` are the vectors in bfloat16, if they are used.
    """

    vectors: Tensor
    place: Tensor
    order: Tensor
    starts: Tensor
    rounded: Tensor | None = None

    def __len__(self) -> int:
        return len(self.place)

    def part(self, first: int, last: int) -> Side:
        """The rows from `first` to before `last`."""
        return self.of(slice(first, last))

    def cut(self, width: int) -> list[Side]:
        """Parts of at most `width` rows."""
        return [self.part(start, start + width) for start in range(0, len(self), width)]

    @property
    def nbytes(self) -> int:
        """How many bytes its vectors take."""
        rounded = 0 if self.rounded is None else self.rounded.nbytes
        return self.vectors.nbytes + rounded

    def of(self, rows: slice | Tensor) -> Side:
        """The chosen rows, in that order."""
        rounded = None if self.rounded is None else self.rounded[rows]
        return Side(self.vectors[rows], self.place[rows], self.order[rows], self.starts, rounded)


def sorted_sides(
    query: Samples, gallery: Samples | None, device: torch.device | str | None
) -> tuple[Side, Side]:
    """Queries and gallery by class, classes by the number of gallery samples; twice one if same.

    Classes of one size come in random order: what one tile shows of a query is then as good as any.
    """
    found = query if gallery is None else gallery
    classes = int(max(query.labels.max(), found.labels.max())) + 1
    shuffled = torch.from_numpy(generator(0, "order of classes").permutation(classes))
    sizes = torch.bincount(found.labels, minlength=classes)
    place = shuffled[sizes[shuffled].argsort(stable=True)].argsort()
    rows = _side(query, place, device)
    return rows, rows if gallery is None else _side(gallery, place, device)


def _side(samples: Samples, place: Tensor, device: torch.device | str | None) -> Side:
    places, order = place[samples.labels].sort(stable=True)
    vectors = torch.empty(samples.vectors.shape, device=device)
    for start in range(0, len(order), _SLICE):
        rows = order[start : start + _SLICE]
        vectors[start : start + _SLICE] = normalized(samples.vectors[rows].to(device))
    sizes = torch.bincount(places, minlength=len(place))
    starts = torch.cat((sizes.new_zeros(1), sizes.cumsum(0)))
    return Side(vectors, places.to(device), order.to(device), starts)


def margin(dimension: int) -> float:
    """How far two similarities in float32 lie apart at most because of rounding alone.

    A sum of d products of unit vectors is off by at most d u / (1 - d u) with u = 2^-24 in any
    order of summation (Higham 2002, section 3.1); the rest covers the rounding of the lengths, of
    the similarity it is compared with, and of their difference.
    """
    return 1.01 * (dimension + 8) * 2.0**-24


def tile(rows: Side, columns: Side) -> Tensor:
    """Similarities (r, c) in float32; -inf between samples of one class.

    Within `margin` of the truth if formed in `full_precision`.
    """
    similarity = torch.mm(rows.vectors, columns.vectors.T)
    return negatives_only(similarity, rows.place, columns.place)


def exact_part(rows: Side, columns: Side, down: Tensor, across: Tensor) -> Tensor:
    """The tile's true values where the rows `down` and the columns `across` cross.

    `down` is (r,) int64, `across` (c,) int64, the values (r, c) float32.
    """
    products = exact_products(rows.vectors[down], columns.vectors[across])
    return negatives_only(products, rows.place[down], columns.place[across])


def exact_products(rows: Tensor, columns: Tensor) -> Tensor:
    """Dot products (..., r, c) of float32 vectors, formed in float64 and rounded to float32."""
    return (rows.double() @ columns.double().mT).float()


def chosen_products(rows: Tensor, columns: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Dot products (p,) float32 of `rows[down]` and `columns[across]`, all on the CPU.

    Vectors are float32 and indices int64, in any order.
    """
    products = torch.empty(len(down))
    given = [each.contiguous() for each in (rows, down, columns, across, products)]
    with faiss_on() as faiss:
        pointers = [faiss.swig_ptr(each.numpy()) for each in given]
        faiss.pairwise_indexed_inner_product(rows.shape[1], len(down), *pointers)
    return products


def negatives_only(similarity: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The similarities (r, c) of samples whose classes have these places, -inf where they agree."""
    if rows[0] <= columns[-1] and columns[0] <= rows[-1]:
        similarity.masked_fill_(rows[:, None] == columns, _NONE)
    return similarity


@contextmanager
def full_precision() -> Iterator[None]:
    """Float32 products are what they say within it, not TF32 or bfloat16 in their place."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
