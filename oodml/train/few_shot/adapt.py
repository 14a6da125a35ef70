"""Adaptation of one model to the support of one episode, step by step; any loss, any model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from oodml.errors import DataError
from oodml.runs.spec import RunSpec
from oodml.train.data import Draw, Samples, prefetched
from oodml.train.few_shot.support import Indices, Task
from oodml.train.loop import seeded
from oodml.train.objective import Criterion, Encoded, Objective, Scheduled, trainable

# Training inputs are asked for in advance; this many batches are requested at once.
AHEAD = 100
# The published rate, 10 x 1e-5 (arXiv:2107.09562), is 0.1 x the 1e-3 of heads on features. There
# 0.1 gains with all heads tried, while 1 and more make trained ones worse.
NETWORK_FACTOR, HEAD_FACTOR = 10.0, 0.1


@dataclass(frozen=True)
class Rates:
    """Learning rates of what is adapted and of the criterion's own parameters."""

    model: float
    criterion: float

    def groups(
        self, model: list[nn.Parameter], criterion: list[nn.Parameter]
    ) -> list[dict[str, object]]:
        """Both as groups of an optimiser; without the criterion's if it has none."""
        given = [{"params": model, "lr": self.model}, {"params": criterion, "lr": self.criterion}]
        return [group for group in given if group["params"]]


def rates_of(spec: RunSpec) -> Rates:
    """The rates of a run's adaptation; `few_shot_rate` 0 stands for what suits what is trained."""
    usual = NETWORK_FACTOR if spec.model.train == "all" else HEAD_FACTOR
    factor = spec.few_shot.rate or usual
    return Rates(factor * spec.training.learning_rate, spec.training.criterion_learning_rate)


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
    optimizer = torch.optim.Adam(
        rates_of(model.spec).groups(adapted, trainable(criterion.to(device))), fused=True
    )
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
            "not finite; lower --few-shot-rate."
        )


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
    with torch.autocast(
        inputs.device.type, torch.bfloat16, enabled=model.spec.training.precision == "bf16"
    ):
        values = model.embed(inputs) if criterion.normalized else model.output(inputs)
    values = values.float()
    if criterion.normalized:
        return Encoded(values, values, values)
    return Encoded(values, values, functional.normalize(values, dim=1))
