"""Adaptation of the heads of many episodes at once: one step moves all of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.runs.spec import RunSpec
from oodml.seeding import generator
from oodml.train.few_shot.adapt import check_finite, rates_of
from oodml.train.few_shot.identity_head import Turned
from oodml.train.few_shot.losses import EpisodesLoss, Pairs
from oodml.train.few_shot.rounded_products import rounded, rounded_products
from oodml.train.few_shot.support import Indices, Task
from oodml.train.objective import Objective


@dataclass(frozen=True, eq=False)
class Lesson:
    """One step of every episode, (E, B) each but the uniform numbers `draws` (E, 2, B).

    `rows` are those of the inputs, `places` those of all supports, one after the other.
    """

    rows: Tensor
    places: Tensor
    labels: Tensor
    draws: Tensor


class Heads(nn.Module, ABC):
    """A parameter for every episode's head of one kind; the heads' own are copied in and out."""

    names: tuple[str, ...] = ()
    weight: nn.Parameter
    bias: nn.Parameter | None
    inputs: Tensor

    def __init__(self, heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self.heads = list(heads)
        for name in self.names:
            parts = [getattr(head, name) for head in heads]
            whole = None if parts[0] is None else nn.Parameter(torch.stack(parts).detach())
            self.register_parameter(name, whole)

    @abstractmethod
    def begin(self, inputs: Tensor, tasks: Sequence[Task]) -> None:
        """Get ready to be trained on the supports of the tasks, rows of inputs (N, C)."""

    @abstractmethod
    def cosines(self, lesson: Lesson) -> Tensor:
        """The cosines (E, B, B) of what the heads make of the batches of one step."""

    @torch.no_grad()
    def hand_back(self) -> None:
        """Write the parameters into the heads that they came from."""
        for name in self.names:
            whole = getattr(self, name)
            for head, part in zip(self.heads, () if whole is None else whole, strict=False):
                getattr(head, name).copy_(part)


class LinearHeads(Heads):
    """Linear maps (E, D, C)."""

    names = ("weight", "bias")

    def begin(self, inputs: Tensor, tasks: Sequence[Task]) -> None:
        self.inputs = rounded(inputs)

    def cosines(self, lesson: Lesson) -> Tensor:
        output = rounded_products(self.weight, _taken(self.inputs, lesson.rows))
        if self.bias is not None:
            output = output + self.bias[:, :, None]
        unit = functional.normalize(output, dim=1)
        return unit.transpose(1, 2) @ unit


class TurnedHeads(Heads):
    """Maps that move r directions each and leave the rest: its inner products never change."""

    names = ("weight",)

    def __init__(self, heads: Sequence[Turned]) -> None:
        super().__init__(heads)
        self.directions = [head.directions for head in heads]

    def begin(self, inputs: Tensor, tasks: Sequence[Task]) -> None:
        own = zip(tasks, self.directions, strict=True)
        self.inputs = inputs
        self.within = torch.cat([_rows(inputs, task.support) @ turned for task, turned in own])

    def cosines(self, lesson: Lesson) -> Tensor:
        # Differences of inner products leave nothing of half precision.
        inputs, within = _taken(self.inputs, lesson.rows), _taken(self.within, lesson.places)
        moved = within @ self.weight.transpose(1, 2)
        rest = inputs @ inputs.transpose(1, 2) - within @ within.transpose(1, 2)
        products = rest + moved @ moved.transpose(1, 2)
        lengths = products.diagonal(dim1=1, dim2=2).clamp(min=1e-12).sqrt()
        return products / (lengths[:, :, None] * lengths[:, None, :])


def together(models: Sequence[Objective]) -> Heads | None:
    """The heads of models as one module, or None where they are not of one of these kinds.

    Only objectives that embed by their head's output at unit length are.
    """
    if not all(_is_plain(model) for model in models):
        return None
    heads: list[nn.Module] = [model.model.head for model in models]
    kinds = {type(head) for head in heads}
    if kinds == {nn.Linear}:
        return LinearHeads(heads)
    shapes = {head.directions.shape for head in heads if isinstance(head, Turned)}
    if kinds == {Turned} and len(shapes) == 1:
        return TurnedHeads([head for head in heads if isinstance(head, Turned)])
    return None


def _is_plain(model: Objective) -> bool:
    own, plain = type(model), Objective
    return (own.embed, own.unit, own.output) == (plain.embed, plain.unit, plain.output)


def adapt_together(
    heads: Heads,
    loss: EpisodesLoss,
    inputs: Tensor,
    tasks: Sequence[Task],
    batches: Sequence[Indices],
    pairs: Pairs,
    spec: RunSpec,
) -> None:
    """Train the heads of all tasks on their supports, by Adam, in place.

    `inputs` (N, C) are what the heads get of all test samples; `batches`, one (steps, B) a task,
    are positions in its support and all that is read of them. No draw of one task depends on
    another task. Raises `DataError` when the weights of one run away.
    """
    device = inputs.device
    heads, loss = heads.to(device), loss.to(device)
    pairs = Pairs(*(mask.to(device) for mask in pairs))
    optimizer = torch.optim.Adam(
        rates_of(spec).groups(list(heads.parameters()), list(loss.parameters())), fused=True
    )
    heads.begin(inputs, tasks)
    for lesson in _lessons(tasks, batches, device):
        losses = loss(heads.cosines(lesson), lesson.labels, pairs, lesson.draws)
        optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()
        optimizer.step()
    for number, task in enumerate(tasks):
        check_finite([whole[number] for whole in heads.parameters()], spec, task)
    heads.hand_back()


def _lessons(
    tasks: Sequence[Task], batches: Sequence[Indices], device: torch.device
) -> Iterator[Lesson]:
    steps, size = batches[0].shape
    rows = np.stack([task.support[own] for task, own in zip(tasks, batches, strict=True)], 1)
    before = np.cumsum([0] + [len(task.support) for task in tasks[:-1]])
    places = np.stack([first + own for first, own in zip(before, batches, strict=True)], 1)
    labels = np.stack([task.labels[own] for task, own in zip(tasks, batches, strict=True)], 1)
    draws = np.stack(
        [
            generator(task.seed, "draws").random((steps, 2, size), dtype=np.float32)
            for task in tasks
        ],
        axis=1,
    )
    whole = [torch.from_numpy(part).to(device) for part in (rows, places, labels, draws)]
    for step in range(steps):
        yield Lesson(*(part[step] for part in whole))


def _rows(inputs: Tensor, rows: Indices) -> Tensor:
    return inputs[torch.from_numpy(rows).to(inputs.device)]


def _taken(inputs: Tensor, rows: Tensor) -> Tensor:
    """Rows (E, B) of inputs (N, C) as (E, B, C); far faster than indexing by a matrix."""
    return inputs.index_select(0, rows.flatten()).view(*rows.shape, -1)
