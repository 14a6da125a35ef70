"""The objective, which is what a method optimises, with its hooks and their arguments."""

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
    """The part of a run that hooks have access to: fitting samples, the draws' `seed`, the device.

    The samples are the rows of the fitting classes alone; no validation or test class can be
    reached from here.
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
        """The model's outputs for training samples, not augmented, in eval mode: (n, D) float32.

        `what` is "embedding" (unit length, as in retrieval), "output" (the head's, unnormalised),
        "pooled" (the trunk's features), or a function of a batch of inputs. `index` selects
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
    (B,) are the samples' rows among the training samples.

    `step` is the number of steps before this one, `progress` their share of all steps of the run,
    from 0 to below 1. Where several processes train together, `views` and `index` are this
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
    """The model's outputs for one view, in float32, gathered from all processes.

    `pooled` features are (B, C), the head's unnormalised `output` is (B, D), `embedding` (B, D) has
    unit length.
    """

    pooled: Tensor
    output: Tensor
    embedding: Tensor

    @classmethod
    def of(cls, pooled: Tensor, output: Tensor) -> Encoded:
        """From pooled features (B, C) and a head's output (B, D), normalised as the embedding."""
        return cls(pooled, output, functional.normalize(output, dim=1))


class Criterion(nn.Module):
    """A loss, called as criterion(embeddings, labels), with flags for what else it takes.

    Embeddings (B, D) have unit length if it is `normalized`, else they are the head's unnormalised
    outputs; labels are (B,). A criterion that `takes_pairs` is also given index tuples, of triplets
    (anchors, positives, negatives) or of pairs (anchors, positives, anchors, negatives): those of
    its `miner`, or of a method that selects them itself. One that `takes_references` may be given
    reference embeddings (R, D) and their labels (R,) after the tuples, whose positives and
    negatives are then indices into the references. `samplewise` says that the loss of a batch is
    the mean of independent losses of its samples, so that a batch may be divided.

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

    # Typed as in nn.Module, so that subclasses may take other arguments.
    forward: Callable[..., Any] = _of_loss

    def of(self, encoded: Encoded, labels: Tensor) -> Tensor:
        """The scalar loss of an encoded batch, with the tuples of the miner.

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
        """The embeddings that the loss compares: normalised, or the head's outputs."""
        return encoded.embedding if self.normalized else encoded.output


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning rate and a weight decay.

    `warm` groups are newly initialised and trained during a warm-up too; the others are frozen
    until it ends.
    """

    parameters: list[nn.Parameter]
    learning_rate: float
    weight_decay: float
    warm: bool = True


class Objective(nn.Module):
    """A model and a criterion; methods that are more than a loss override the hooks.

    The hooks are `loader`, `begin_epoch`, `loss`, `after_step` and `embed`, with the parameters
    declared in `parameter_groups` and further optimisers in `private_optimizers`. All state must be
    in parameters, buffers, extra state or those optimisers, so that a resumed run equals an
    uninterrupted one. `views` is the number of differently augmented versions of every image in a
    batch; cached features have only one unless `cached_views` are given.
    """

    views = 1

    def __init__(self, spec: RunSpec, model: EmbeddingModel, criterion: Criterion) -> None:
        super().__init__()
        self.spec = spec
        self.model = model
        self.criterion = criterion
        self.observed: Tensor | None = None

    def loader(self, training: Training, epoch: int) -> Iterable[Any]:
        """Index arrays into the training samples, one per batch."""
        return self.batches(training).epoch(epoch)

    def batches(self, training: Training) -> Batches:
        """The batches that the run's settings ask for."""
        return batches_for(self.spec.training, training.labels.numpy(), seed=training.seed)

    def total_steps(self, training: Training) -> int:
        """The steps of the whole run, unless patience ends it earlier."""
        asked = self.spec.training
        return asked.epochs * self.batches(training).batches or asked.steps

    def begin_epoch(self, training: Training, epoch: int) -> None:
        """Hook before the first batch of an epoch; `training.encode` embeds training samples."""

    def loss(self, batch: Batch) -> Tensor:
        """The scalar to minimise, computed in float32."""
        return self.criterion.of(self.encode(batch.inputs), batch.labels)

    def after_step(self, training: Training, batch: Batch) -> None:
        """Hook after every step of the optimiser."""

    def embed(self, inputs: Tensor) -> Tensor:
        """The unit-length embeddings (B, D) that retrieval uses, of this process's inputs."""
        return self.unit(self.output(inputs))

    def unit(self, output: Tensor) -> Tensor:
        """The head's outputs (B, D) at unit length; methods with several heads weight them here."""
        return functional.normalize(output, dim=1)

    def output(self, inputs: Tensor) -> Tensor:
        """The head's outputs (B, D) before normalisation, in float32."""
        values: Tensor = self.model(inputs)
        return values.float()

    def parameter_groups(self) -> list[ParameterGroup]:
        """The trunk's and head's groups, and the criterion's with its own rate and no decay."""
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
        """The model's outputs for inputs (b, ...), gathered from all processes, in float32.

        The epoch's diagnostics are computed on the first call of a step.
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
        """A context in which networks compute in the run's precision, on the inputs' device."""
        enabled = self.spec.training.precision == "bf16"
        return torch.autocast(inputs.device.type, torch.bfloat16, enabled=enabled)


class Scheduled(nn.Module):
    """A loss or a miner that depends on the step, which it is given before each step."""

    def begin_step(self, step: int) -> None:
        """`step` is the number of steps done before this one."""
        raise NotImplementedError


def make_objective(built: Any, spec: RunSpec, model: EmbeddingModel) -> Objective:
    """The objective of what a method's function returned: a loss, or an objective's factory."""
    if isinstance(built, nn.Module):
        return Objective(spec, model, as_criterion(built))
    made: Objective = built(spec, model)
    return made


def as_criterion(built: nn.Module) -> Criterion:
    """The criterion of a loss; a plain module takes embeddings and labels."""
    return built if isinstance(built, Criterion) else Criterion(built)


def groups(*given: ParameterGroup) -> list[ParameterGroup]:
    """The given groups that have parameters."""
    return [group for group in given if group.parameters]


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """The parameters of a module that require a gradient."""
    return [p for p in module.parameters() if p.requires_grad]


def constant(module: nn.Module, inputs: Tensor) -> Tensor:
    """A module's output for inputs (B, k); its parameters get no gradient, the inputs do."""
    parameters = {name: value.detach() for name, value in module.named_parameters()}
    output: Tensor = functional_call(module, parameters, (inputs,))
    return output


def check_groups(objective: Objective) -> None:
    """Raise `ValueError` naming a trainable parameter that no optimiser or several would update.

    Each must be in exactly one of the declared groups and private optimisers.
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
    """`function` of the samples `index`, in blocks, in eval mode: (n, D) on the CPU.

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
