"""The objective: what a method optimises, as hooks of the loop, and what the hooks are given."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from oodml.runs.spec import RunSpec
from oodml.train.batches import Batches, batches_for
from oodml.train.distributed import gathered
from oodml.train.model import EmbeddingModel

if TYPE_CHECKING:
    from oodml.train.data import Samples

EMBED_BATCH = 256
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Training:
    """What a method's hooks see of a run: its fitting samples, the `seed` of its draws, the device.

    The samples hold the rows of the fitting classes alone; no validation class and no test class
    can be reached from here.
    """

    samples: Samples
    seed: int
    device: str = "cpu"

    @property
    def labels(self) -> Tensor:
        """The labels (n,) int64 of the training samples, from 0, on the CPU."""
        return self.samples.labels

    def encode(
        self,
        objective: Objective,
        what: str | Callable[[Tensor], Tensor] = "embedding",
        index: Indices | None = None,
    ) -> Tensor:
        """What the model makes of training samples, not augmented, in eval mode: (n, D) float32.

        `what` is "embedding" (unit length, as retrieval sees it), "output" (the head's, as it is),
        "pooled" (the trunk's features), or a function of a batch of inputs. `index` chooses
        samples; without it all are taken.
        """
        functions: dict[str, Callable[[Tensor], Tensor]] = {
            "embedding": objective.embed,
            "output": objective.output,
            "pooled": lambda inputs: objective.model.trunk(inputs).float(),
        }
        rows = np.arange(len(self.labels)) if index is None else index
        function = functions[what] if isinstance(what, str) else what
        return encoded_rows(objective, self.samples, rows, function, self.device)


@dataclass(frozen=True)
class Batch:
    """The samples of one step.

    `views` are inputs (B, ...) each, `labels` (B,) count from 0 over the training classes, `index`
    (B,) is the place of every sample among the training samples.

    `step` counts the steps done before this one, `progress` is their share of all steps of the
    run: from 0 to below 1. Where several processes train together, `views` and `index` are this
    process's share and `labels` those of the whole batch.
    """

    views: tuple[Tensor, ...]
    labels: Tensor
    index: Tensor
    step: int = 0
    progress: float = 0.0

    @property
    def inputs(self) -> Tensor:
        """The first view."""
        return self.views[0]


@dataclass(frozen=True)
class Encoded:
    """What the model makes of one view, in float32, of all processes together.

    `pooled` features are (B, C), the head's `output` (B, D) is as it comes, `embedding` (B, D) of
    unit length.
    """

    pooled: Tensor
    output: Tensor
    embedding: Tensor

    @classmethod
    def of(cls, pooled: Tensor, output: Tensor) -> Encoded:
        """Pooled features (B, C) and the output (B, D) of a head, whose direction is embedded."""
        return cls(pooled, output, functional.normalize(output, dim=1))


class Criterion(nn.Module):
    """A loss, called as criterion(embeddings, labels), that declares what it takes.

    Embeddings (B, D) have unit length if it is `normalized`, else they are the head's outputs as
    they are; labels are (B,). A criterion that `takes_pairs` is also given index tuples, of
    triplets (anchors, positives, negatives) or of pairs (anchors, positives, anchors, negatives):
    those of its `miner`, or of a method that chooses them itself. One that `takes_references` may
    be given reference embeddings (R, D) and their labels (R,) after the tuples, which then point
    from the batch into the references. `samplewise` says that the loss of a batch is the mean of
    the losses of its samples, each by itself, so that a batch may be divided.

    Give a loss, such as one of pytorch-metric-learning, or override `forward`.
    """

    def __init__(
        self,
        loss: nn.Module | None = None,
        miner: nn.Module | None = None,
        *,
        normalized: bool = True,
        samplewise: bool = False,
        takes_pairs: bool = False,
        takes_references: bool = False,
    ) -> None:
        super().__init__()
        self.loss = loss
        self.miner = miner
        self.normalized, self.samplewise = normalized, samplewise
        self.takes_pairs = takes_pairs or takes_references or miner is not None
        self.takes_references = takes_references

    def _of_loss(self, embeddings: Tensor, labels: Tensor, *given: Any) -> Tensor:
        if self.loss is None:
            raise NotImplementedError(f"{type(self).__name__} has no loss and no forward.")
        value: Tensor = self.loss(embeddings, labels, *given)
        return value

    # Declared as nn.Module declares it: subclasses take what they need.
    forward: Callable[..., Any] = _of_loss

    def of(self, encoded: Encoded, labels: Tensor) -> Tensor:
        """The scalar loss of what the model made of a batch, with the tuples of the miner.

        The miner gets unit-length embeddings, without gradient.
        """
        embeddings = self.compared(encoded)
        given: tuple[Any, ...] = ()
        if self.miner is not None:
            with torch.no_grad():
                given = (self.miner(encoded.embedding.detach(), labels),)
        value: Tensor = self(embeddings, labels, *given)
        return value

    def compared(self, encoded: Encoded) -> Tensor:
        """The embeddings that the loss compares: of unit length, or as the head made them."""
        return encoded.embedding if self.normalized else encoded.output


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning rate and a weight decay.

    `warm` groups are new and are trained during a warm-up too; the others are frozen until it ends.
    """

    parameters: list[nn.Parameter]
    learning_rate: float
    weight_decay: float
    warm: bool = True


class Objective(nn.Module):
    """A model and a criterion; methods that need more override the hooks.

    The hooks are `loader`, `begin_epoch`, `loss`, `after_step` and `embed`, with the parameters
    declared in `parameter_groups` and further optimisers in `private_optimizers`. All state lives
    in parameters, buffers, extra state or those optimisers, so that a resumed run equals an
    uninterrupted one. `views` is how many differently augmented versions of every image a batch
    holds; cached features have only one.
    """

    views = 1

    def __init__(self, spec: RunSpec, model: EmbeddingModel, criterion: Criterion) -> None:
        super().__init__()
        self.spec = spec
        self.model = model
        self.criterion = criterion
        self.observed: Tensor | None = None

    def loader(self, training: Training, epoch: int) -> Iterable[Any]:
        """Index arrays, one a batch, into the training samples."""
        return self.batches(training).epoch(epoch)

    def batches(self, training: Training) -> Batches:
        """The batches that the run's settings ask for."""
        return batches_for(self.spec.training, training.labels.numpy(), seed=training.seed)

    def total_steps(self, training: Training) -> int:
        """The steps of the whole run, if patience does not end it before."""
        asked = self.spec.training
        return asked.epochs * self.batches(training).batches or asked.steps

    def begin_epoch(self, training: Training, epoch: int) -> None:
        """Called before the first batch of an epoch; `training.encode` embeds training samples."""

    def loss(self, batch: Batch) -> Tensor:
        """The scalar to minimise, computed in float32."""
        return self.criterion.of(self.encode(batch.inputs), batch.labels)

    def after_step(self, training: Training, batch: Batch) -> None:
        """Called after every step of the optimiser."""

    def embed(self, inputs: Tensor) -> Tensor:
        """The unit-length embeddings (B, D) that retrieval uses, of this process's inputs."""
        return self.unit(self.output(inputs))

    def unit(self, output: Tensor) -> Tensor:
        """The head's outputs (B, D) at unit length; several heads in one weigh theirs here."""
        return functional.normalize(output, dim=1)

    def output(self, inputs: Tensor) -> Tensor:
        """The same before they are brought to unit length, float32."""
        values: Tensor = self.model(inputs)
        return values.float()

    def parameter_groups(self) -> list[ParameterGroup]:
        """The model's trunk and head, and the criterion's own with their own rate and no decay."""
        spec = self.spec
        rate, decay = spec.training.learning_rate, spec.training.weight_decay
        return groups(
            ParameterGroup(trainable(self.model.trunk), rate, decay, warm=False),
            ParameterGroup(trainable(self.model.head), rate, decay),
            ParameterGroup(trainable(self.criterion), spec.training.criterion_learning_rate, 0.0),
        )

    def private_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Optimisers that the method steps itself, by name; their state is saved with the run's."""
        return {}

    def encode(self, inputs: Tensor) -> Encoded:
        """What the model makes of inputs (b, ...), gathered from all processes, in float32.

        The first call of a step is what the epoch's diagnostics are computed on.
        """
        with self.autocast(inputs):
            pooled = self.model.trunk(inputs)
            output = self.model.head(pooled)
        pooled, output = gathered(pooled.float()), gathered(output.float())
        encoded = Encoded(pooled, output, self.unit(output))
        if self.observed is None and torch.is_grad_enabled():
            self.observed = encoded.embedding
            if self.observed.requires_grad:
                self.observed.retain_grad()
        return encoded

    def autocast(self, inputs: Tensor) -> torch.autocast:
        """The precision that the run's networks compute in, on the device of `inputs`."""
        enabled = self.spec.training.precision == "bf16"
        return torch.autocast(inputs.device.type, torch.bfloat16, enabled=enabled)


class Scheduled(nn.Module):
    """A loss or a miner that changes over a run: called with every step before it is taken."""

    def begin_step(self, step: int) -> None:
        """`step` counts the steps done before this one."""
        raise NotImplementedError


def make_objective(built: Any, spec: RunSpec, model: EmbeddingModel) -> Objective:
    """The objective from what a method's function returned."""
    if isinstance(built, nn.Module):
        return Objective(spec, model, as_criterion(built))
    made: Objective = built(spec, model)
    return made


def as_criterion(built: nn.Module) -> Criterion:
    """What a loss-only method's function returned; a plain module takes embeddings and labels."""
    return built if isinstance(built, Criterion) else Criterion(built)


def groups(*given: ParameterGroup) -> list[ParameterGroup]:
    """The given groups that hold any parameter."""
    return [group for group in given if group.parameters]


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """The parameters of a module that are trained."""
    return [p for p in module.parameters() if p.requires_grad]


def constant(module: nn.Module, inputs: Tensor) -> Tensor:
    """A module's output for inputs (B, k); its parameters get no gradient, the inputs do."""
    parameters = {name: value.detach() for name, value in module.named_parameters()}
    output: Tensor = functional_call(module, parameters, (inputs,))
    return output


def check_groups(objective: Objective) -> None:
    """Raise `ValueError` naming a trainable parameter that is not in exactly one place.

    The places are the declared groups and the private optimisers.
    """
    private = [
        id(p)
        for optimizer in objective.private_optimizers().values()
        for group in optimizer.param_groups
        for p in group["params"]
    ]
    seen = [id(p) for group in objective.parameter_groups() for p in group.parameters] + private
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad and seen.count(id(parameter)) != 1:
            raise ValueError(
                f"{objective.spec.method.name}: parameter {name} stands in "
                f"{seen.count(id(parameter))} groups; declare it in exactly one."
            )


@torch.no_grad()
def encoded_rows(
    objective: Objective,
    samples: Samples,
    index: Indices,
    function: Callable[[Tensor], Tensor],
    device: str,
    flip: bool = False,
) -> Tensor:
    """`function` of the samples `index`, block by block in eval mode: (n, D) on the CPU.

    `flip` mirrors images from left to right.
    """
    training = objective.training
    objective.eval()
    mirrored = {"flip": True} if flip else {}
    parts = [
        function(
            samples.evaluation(index[start : start + EMBED_BATCH], **mirrored).to(device)
        ).cpu()
        for start in range(0, len(index), EMBED_BATCH)
    ]
    objective.train(training)
    return torch.cat(parts)
