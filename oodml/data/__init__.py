"""Images with class labels: folders, CSV files and named collections become a Dataset."""

from __future__ import annotations

from oodml.data.dataset import Dataset, broken_images, broken_images_error
from oodml.data.image import read_image
from oodml.data.load import collection_names, load_dataset

__all__ = [
    "Dataset",
    "broken_images",
    "broken_images_error",
    "collection_names",
    "load_dataset",
    "read_image",
]
