"""Images through a frozen network: decoding in threads beside the computing, bounded memory."""

from __future__ import annotations

import copy
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from oodml.data import broken_images, broken_images_error
from oodml.data.dataset import Dataset
from oodml.device import usable_device
from oodml.errors import DataError, UsageError
from oodml.features.backbones.registry import Backbone
from oodml.features.engine import fold_batch_norm

logger = logging.getLogger("oodml")

PRECISIONS = ("fp32", "bf16")
_MOST_DECODERS = 8

Values = npt.NDArray[np.float32]
Embed = Callable[[torch.Tensor], Values]


def check_precision(precision: str) -> None:
    """Raise `UsageError` for anything but "fp32" and "bf16"."""
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}. Known: {', '.join(PRECISIONS)}.")


def extract_rows(
    dataset: Dataset,
    backbone: Backbone,
    spans: Sequence[range],
    *,
    precision: str,
    batch_size: int | None = None,
    device: str | None = None,
    progress: bool = False,
    read: Callable[[int], torch.Tensor] | None = None,
) -> Iterator[Values]:
    """The (len(span), d) float32 features of each span of samples, one after the other.

    `read` gives the network's input (3, H, W) of a sample; without it, the backbone's transform of
    the image does. It is called in threads.
    At most three batches of images are in memory, however large the collection. As soon as an
    image does not decode, raises the `DataError` that counts and names all that do not.
    """
    if not spans:
        return
    batch_size = _batch_size(batch_size, backbone, device)
    embed = frozen(backbone, precision, device)
    batches = [
        span[at : at + batch_size] for span in spans for at in range(0, len(span), batch_size)
    ]
    inputs = _decoded(
        dataset, read or (lambda index: backbone.transform(dataset[index][0])), batches
    )
    total = len(dataset)
    done = total - sum(map(len, spans))
    with tqdm(
        total=total, initial=done, desc=backbone.name, unit="image", disable=not progress
    ) as bar:
        for span in spans:
            rows = np.empty((len(span), backbone.dimension), dtype=np.float32)
            for at in range(0, len(span), batch_size):
                images = next(inputs)
                rows[at : at + len(images)] = embed(images)
                bar.update(len(images))
            yield rows


def frozen(backbone: Backbone, precision: str, device: str | None = None) -> Embed:
    """The fastest safe form of a backbone for inference: (B, 3, H, W) tensor to (B, d) array.

    Works on a copy, so `backbone.module` stays trainable: batch normalisation folded, channels
    last, bfloat16 autocast for "bf16". On CUDA, "fp32" means float32, not TF32.
    """
    target = usable_device(device)
    module = copy.deepcopy(backbone.module).eval().requires_grad_(False)
    folded = fold_batch_norm(module)
    _say(backbone.name, target, precision, folded)
    module = module.to(target).to(memory_format=torch.channels_last)

    def embed(images: torch.Tensor) -> Values:
        inputs = images.to(target, memory_format=torch.channels_last)
        with torch.inference_mode(), _arithmetic(target, precision):
            values: Values = module(inputs).float().cpu().numpy()
        return values

    return embed


def _say(name: str, device: torch.device, precision: str, folded: int) -> None:
    logger.info(
        "%s on %s in %s, channels last, %d batch normalisations folded",
        name,
        device,
        precision,
        folded,
    )
    if precision == "bf16" and device.type == "cpu" and not _computes_bf16():
        logger.warning("this processor has no bfloat16 arithmetic: fp32 will be faster")


def _computes_bf16() -> bool:
    try:
        return "bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return True


def _batch_size(given: int | None, backbone: Backbone, device: str | None) -> int:
    if given is not None:
        if given < 1:
            raise UsageError(f"batch size {given} is too small: give at least 1.")
        return given
    if usable_device(device).type != "cpu":
        return 128
    # The activations of about 16 images of 299 pixels still fit a CPU's caches (fid.md, 5.1).
    return max(1, min(64, 16 * 299**2 // backbone.image_size**2))


def _arithmetic(device: torch.device, precision: str) -> AbstractContextManager[object]:
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    if device.type == "cuda":
        return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    return nullcontext()


def _decoded(
    dataset: Dataset, read: Callable[[int], torch.Tensor], batches: Sequence[range]
) -> Iterator[torch.Tensor]:
    """Batches of network inputs, one batch decoded ahead of the one that is computed."""
    with ThreadPoolExecutor(min(_MOST_DECODERS, len(os.sched_getaffinity(0)))) as pool:
        waiting: deque[list[Future[torch.Tensor]]] = deque()
        upcoming = iter(batches)
        try:
            for batch in upcoming:
                waiting.append([pool.submit(read, index) for index in batch])
                if len(waiting) > 1:
                    yield _stacked(waiting.popleft(), dataset)
            while waiting:
                yield _stacked(waiting.popleft(), dataset)
        finally:
            pool.shutdown(cancel_futures=True)


def _stacked(pending: list[Future[torch.Tensor]], dataset: Dataset) -> torch.Tensor:
    try:
        return torch.stack([future.result() for future in pending])
    except DataError:
        broken = broken_images(dataset)
        if not broken:
            raise
        raise broken_images_error(dataset, broken) from None
