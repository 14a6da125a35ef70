"""Which images of a dataset do not decode, all of them at once."""

from __future__ import annotations

import logging
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from tqdm import tqdm

from oodml.data.dataset import Dataset
from oodml.data.images import decoding_error
from oodml.data.samples import check_class_sizes, first_few
from oodml.errors import DataError

logger = logging.getLogger("oodml")


def broken_images(dataset: Dataset, *, progress: bool = False) -> list[tuple[str, str]]:
    """The name of every sample that does not decode, with the reason, in the dataset's order.

    Every file is decoded, in threads: about 5,000 small or 100 photograph-sized files a second.
    """
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        reasons = pool.map(decoding_error, dataset.paths, chunksize=64)
        bar = tqdm(reasons, total=len(dataset), desc="check", unit="image", disable=not progress)
        return [
            (name, reason)
            for name, reason in zip(dataset.sample_names, bar, strict=True)
            if reason is not None
        ]


def broken_images_error(dataset: Dataset, broken: list[tuple[str, str]]) -> DataError:
    """The `DataError` that counts the broken images, names the first few and says what to do."""
    names = [name for name, _ in broken]
    return DataError(
        f"{dataset.source or dataset.name}: {len(broken)} of {len(dataset)} images do not decode: "
        f"{first_few(names)} (the first: {broken[0][1]}). "
        "Mend or remove them, or skip them with --skip-broken."
    )


def without_broken(dataset: Dataset, *, progress: bool = False) -> Dataset:
    """The dataset without the images that do not decode; their names stand in `skipped`.

    Raises `DataError` if a class is left with fewer than two images.
    """
    broken = {name for name, _ in broken_images(dataset, progress=progress)}
    if not broken:
        return dataset
    names = sorted(broken)
    logger.warning("%s: skipped %d broken images: %s", dataset.name, len(names), ", ".join(names))
    keep = np.flatnonzero([name not in broken for name in dataset.sample_names])
    counts = Counter(dict.fromkeys(dataset.class_names, 0))
    counts.update(dataset.class_names[label] for label in dataset.labels[keep])
    check_class_sizes(counts, f"{dataset.source or dataset.name}, {len(names)} broken left out")
    return replace(
        dataset,
        labels=dataset.labels[keep],
        sample_names=tuple(dataset.sample_names[index] for index in keep),
        paths=tuple(dataset.paths[index] for index in keep),
        sizes=dataset.sizes[keep],
        skipped=(*dataset.skipped, *names),
    )
