import io

import numpy as np
import pytest
from data.collections.conftest import downloaded, small
from scipy.io import savemat

from oodml.data.collections.download import load_collection
from oodml.data.collections.matlab_lists import FLOWER_NAMES
from oodml.data.collections.registry import find_collection
from oodml.errors import DataError

HOME = "flowers-102"
SMALL = small("flowers102", 3, 5)


def matlab(**values):
    file = io.BytesIO()
    savemat(file, values)
    return file.getvalue()


@pytest.fixture
def flowers():
    images = {f"jpg/image_{number:05d}.jpg": None for number in range(1, 6)}
    labels = matlab(labels=np.array([[77, 1, 77, 1, 73]], np.uint8))
    return [images, {"imagelabels.mat": labels}]


def test_images_are_numbered_from_one_and_labels_too(flowers, tmp_path):
    dataset = downloaded(SMALL, tmp_path, *flowers, root=tmp_path)
    assert dataset.class_names == ("passion flower", "pink primrose")
    assert dataset.sample_names == tuple(f"image_{number:05d}.jpg" for number in (1, 3, 2, 4))
    assert dataset.labels.tolist() == [0, 0, 1, 1]
    assert dataset.skipped == ("image_00005.jpg",)
    assert dataset.groups is None
    assert dataset[3][0].size == (6, 6)


def test_the_names_are_those_of_the_published_labels():
    assert len(set(FLOWER_NAMES)) == 102
    # Pairs from the category list that is passed on with the collection.
    known = {1: "pink primrose", 21: "fire lily", 45: "bolero deep blue", 102: "blackberry lily"}
    assert {label: FLOWER_NAMES[label - 1] for label in known} == known


def test_published_counts_are_demanded(flowers, tmp_path):
    published = find_collection("flowers102")
    assert (published.classes, published.images) == (102, 8_189)
    downloaded(SMALL, tmp_path, *flowers, root=tmp_path)
    (tmp_path / HOME / "imagelabels.mat").write_bytes(matlab(labels=[77, 1, 77, 1]))
    with pytest.raises(DataError, match="2 classes and 4 images; flowers102 must have 3 classes"):
        load_collection(SMALL, tmp_path)


def test_a_missing_image_and_unusable_labels_are_named(flowers, tmp_path):
    downloaded(SMALL, tmp_path, *flowers, root=tmp_path)
    labels = tmp_path / HOME / "imagelabels.mat"
    whole = labels.read_bytes()
    unusable = [matlab(numbers=[1, 2]), matlab(labels=np.array(["a", "b"], object)), b"no MATLAB"]
    unusable.append(whole[:124] + b"\0\2IM" + whole[128:])  # says that it is HDF5 inside
    for content in (*unusable, *(whole[:size] for size in range(0, len(whole), 7))):
        labels.write_bytes(content)
        with pytest.raises(DataError, match="has no readable variable 'labels'"):
            load_collection(SMALL, tmp_path)
    labels.write_bytes(matlab(labels=[77, 1, 0]))
    with pytest.raises(DataError, match="holds the label 0; labels are 1 to 102"):
        load_collection(SMALL, tmp_path)
    labels.write_bytes(whole)
    (tmp_path / HOME / "jpg" / "image_00002.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 5 images .*: 'image_00002.jpg'"):
        load_collection(SMALL, tmp_path)
