"""Adaptation of trained models to the supports of episodes, by Adam.

Any model adapts with any loss to one support after the other. Linear heads on features, with a loss
of `few_shot.losses`, adapt to the supports of all episodes at once: the same steps, as products of
batches of matrices, in about a third of the time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.errors import DataError
from oodml.runs.spec import RunSpec
from oodml.seeding import generator
from oodml.train.data import Draw, Samples, prefetched
from oodml.train.few_shot.losses import EpisodesLoss, Pairs
from oodml.train.few_shot.support import Indices, Task, Turned
from oodml.train.loop import seeded
from oodml.train.objective import Criterion, Encoded, Objective, Scheduled, trainable

# Training inputs are asked for in advance; this many batches are requested at once.
AHEAD = 100
# The published rate, 10 x 1e-5 (arXiv:2107.09562), is 0.1 x the 1e-3 of heads on features. There
# 0.1 gains with all heads tried, while 1 and more make trained ones worse.
NETWORK_FACTOR, HEAD_FACTOR = 10.0, 0.1


def adaptation_rate(spec: RunSpec) -> float:
    """The learning rate of what is adapted; a `few_shot_rate` of 0 takes what suits it."""
    usual = NETWORK_FACTOR if spec.model.train == "all" else HEAD_FACTOR
    return (spec.few_shot.rate or usual) * spec.training.learning_rate


def adapt(
    model: Objective,
    criterion: Criterion,
    support: Samples,
    task: Task,
    batches: Indices,
    device: str,
) -> None:
    """Train `model` and the criterion's own parameters on the support, by Adam, in place.

    `batches` (steps, batch) are positions in the support. Every step draws from the task's seed
    and its own number. Raises `DataError` when the weights run away.
    """
    left_out = {id(p) for p in model.criterion.parameters()}
    adapted = [p for p in trainable(model) if id(p) not in left_out]
    optimizer = _adam(model.spec, adapted, trainable(criterion.to(device)))
    model.train()
    labels = torch.from_numpy(task.labels)
    scheduled = [m for m in criterion.modules() if isinstance(m, Scheduled)]
    for step, inputs in enumerate(_inputs(support, task, batches)):
        for module in scheduled:
            module.begin_step(step)
        with seeded(task.seed, "step", step):
            encoded = _encoded(model, criterion, inputs.to(device))
            loss = criterion.of(encoded, labels[torch.from_numpy(batches[step])].to(device))
        optimizer.zero_grad(set_to_none=True)
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    model.eval()
    check_finite(adapted, model.spec, task)


def check_finite(adapted: Iterable[Tensor], spec: RunSpec, task: Task) -> None:
    """Raise `DataError` for weights that ran away; once not finite they stay so to the end.

    Weights may have any shape.
    """
    if not all(torch.isfinite(weights).all() for weights in adapted):
        raise DataError(
            f"{spec.label}: the weights adapted to episode {task.number} ({task.shots} shots) are "
            "not finite; lower few_shot_rate."
        )


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
    optimizer = _adam(spec, list(heads.parameters()), list(loss.parameters()))
    heads.begin(inputs, tasks)
    for lesson in _lessons(tasks, batches, device):
        losses = loss(heads.cosines(lesson), lesson.labels, pairs, lesson.draws)
        optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()
        optimizer.step()
    for number, task in enumerate(tasks):
        check_finite([whole[number] for whole in heads.parameters()], spec, task)
    heads.hand_back()


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
        self.inputs = inputs

    def cosines(self, lesson: Lesson) -> Tensor:
        output = self.weight @ _taken(self.inputs, lesson.rows).transpose(1, 2)
        if self.bias is not None:
            output = output + self.bias[:, :, None]
        unit = functional.normalize(output, dim=1)
        return unit.transpose(1, 2) @ unit


class TurnedHeads(Heads):
    """Maps that move r directions each; the Gram matrix across them is constant in adaptation."""

    names = ("weight",)

    def __init__(self, heads: Sequence[Turned]) -> None:
        super().__init__(heads)
        self.directions = [head.directions for head in heads]

    def begin(self, inputs: Tensor, tasks: Sequence[Task]) -> None:
        own = zip(tasks, self.directions, strict=True)
        self.inputs = inputs
        self.within = torch.cat([_rows(inputs, task.support) @ turned for task, turned in own])

    def cosines(self, lesson: Lesson) -> Tensor:
        inputs, within = _taken(self.inputs, lesson.rows), _taken(self.within, lesson.places)
        moved = within @ self.weight.transpose(1, 2)
        rest = inputs @ inputs.transpose(1, 2) - within @ within.transpose(1, 2)
        products = rest + moved @ moved.transpose(1, 2)
        lengths = products.diagonal(dim1=1, dim2=2).clamp(min=1e-12).sqrt()
        return products / (lengths[:, :, None] * lengths[:, None, :])


def _adam(
    spec: RunSpec, model: list[nn.Parameter], criterion: list[nn.Parameter]
) -> torch.optim.Adam:
    """Adam for what is adapted and for the criterion's own parameters, if it has some."""
    rates = adaptation_rate(spec), spec.training.criterion_learning_rate
    groups = [
        {"params": parameters, "lr": rate}
        for parameters, rate in zip((model, criterion), rates, strict=True)
        if parameters
    ]
    return torch.optim.Adam(groups, fused=True)


def _inputs(support: Samples, task: Task, batches: Indices) -> Iterator[Tensor]:
    for start in range(0, len(batches), AHEAD):
        wanted = [
            (index, Draw(task.seed, start + place))
            for place, index in enumerate(batches[start : start + AHEAD])
        ]
        yield from prefetched(wanted, support)


def _encoded(model: Objective, criterion: Criterion, inputs: Tensor) -> Encoded:
    """What the criterion asks for, by one pass through the model.

    A method may embed otherwise than by its output's direction, so a loss of unit vectors gets
    the very embeddings that retrieval compares.
    """
    with model.autocast(inputs):
        values = model.embed(inputs) if criterion.normalized else model.output(inputs)
    values = values.float()
    return Encoded(values, values, values) if criterion.normalized else Encoded.of(values, values)


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
