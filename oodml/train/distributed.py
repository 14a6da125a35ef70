"""Training one batch in several processes: embeddings gathered with gradient, gradients summed.

The processes are those of `torchrun`; without it there is one, and all of this does nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn import functional as collective

from oodml.errors import UsageError


def world_size() -> int:
    """The number of processes that train together."""
    return distributed.get_world_size() if _is_on() else 1


def rank() -> int:
    """This process's number, from 0."""
    return distributed.get_rank() if _is_on() else 0


def share_of(batch_size: int) -> slice:
    """The slice of a batch that this process embeds.

    Raises `UsageError` when the batch does not divide evenly.
    """
    processes = world_size()
    if batch_size % processes:
        raise UsageError(
            f"a batch of {batch_size} does not divide among {processes} processes; give a "
            f"batch_size that is a multiple of {processes} classes and samples."
        )
    each = batch_size // processes
    return slice(rank() * each, (rank() + 1) * each)


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process; every process gets the same answer."""
    if world_size() == 1:
        return flag
    flags: list[bool] = [False] * world_size()
    distributed.all_gather_object(flags, flag)
    return any(flags)


def gathered(rows: Tensor) -> Tensor:
    """The rows (b, ...) of all processes as (B, ...), in the order of their ranks.

    The gradient of a row goes back to the process that made it, summed over all processes.
    """
    if world_size() == 1:
        return rows
    return torch.cat(collective.all_gather(rows))  # type: ignore[no-untyped-call]


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Sum the gradients over all processes, so that each has that of the whole batch.

    Each process has back-propagated the loss of the whole batch, divided by the number of
    processes. A missing gradient counts as zero where another process has one, and stays missing
    where none has: an optimiser with momentum moves a parameter even by a zero gradient.
    """
    if world_size() == 1:
        return
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        return
    here = [parameter.grad is not None for parameter in trained]
    anywhere = torch.tensor(here, dtype=torch.int32, device=trained[0].device)
    distributed.all_reduce(anywhere)
    for parameter, processes in zip(trained, anywhere.tolist(), strict=True):
        if not processes:
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        distributed.all_reduce(parameter.grad)


def _is_on() -> bool:
    return distributed.is_available() and distributed.is_initialized()
