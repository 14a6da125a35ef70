"""Training: what a method's hooks may see of the run, the training samples and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

if TYPE_CHECKING:
    from oodml.train.data import Samples
    from oodml.train.objective import Objective

EMBED_BATCH = 256
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Training:
    """The training samples of a run, the `seed` of its draws, and where it computes.

    No test class and no validation class is within reach from here.
    """

    samples: Samples
    seed: int
    device: str = "cpu"

    @property
    def labels(self) -> Tensor:
        """The labels (n,) int64 of the training samples, from 0, on the CPU."""
        return self.samples.labels

    def encode(
        self, objective: Objective, what: str = "embedding", index: Indices | None = None
    ) -> Tensor:
        """What the model makes of training samples, not augmented, in eval mode: (n, D) float32.

        `what` is "embedding" (unit length, as retrieval sees it), "output" (the head's, as it is)
        or "pooled" (the trunk's features). `index` chooses samples; without it all are taken.
        """
        functions: dict[str, Callable[[Tensor], Tensor]] = {
            "embedding": objective.embed,
            "output": objective.output,
            "pooled": lambda inputs: objective.model.trunk(inputs).float(),
        }
        rows = np.arange(len(self.labels)) if index is None else index
        return encoded_rows(objective, self.samples, rows, functions[what], self.device)


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
