from dataclasses import replace

import pytest
from data.collections.conftest import downloaded, small

from oodml.data.collections.download import load_collection
from oodml.data.collections.registry import find_collection
from oodml.errors import DataError

LISTS = {
    "train1": ["banded/banded_0002.jpg", "polka-dotted/polka-dotted_0004.jpg"],
    "val1": ["banded/banded_0005.jpg"],
    "test1": ["polka-dotted/polka-dotted_0001.jpg"],
}
SMALL = small("dtd", 2, 4)


@pytest.fixture
def textures():
    names = [name for each in LISTS.values() for name in each]
    files = {f"dtd/images/{name}": None for name in names}
    files |= {f"dtd/labels/{key}.txt": "\n".join(each).encode() for key, each in LISTS.items()}
    files["dtd/images/banded/.directory"] = b"[Dolphin]"
    return [files]


def test_the_three_lists_make_one_pool(textures, tmp_path):
    dataset = downloaded(SMALL, tmp_path, *textures, root=tmp_path)
    assert dataset.class_names == ("banded", "polka-dotted")
    assert dataset.labels.tolist() == [0, 0, 1, 1]
    assert dataset.sample_names[:2] == ("banded/banded_0002.jpg", "banded/banded_0005.jpg")
    assert (dataset.name, dataset.source, dataset.groups) == ("dtd", "dtd", None)
    assert dataset[0][0].size == (6, 6)
    # As torchvision lays it: the folder above is given, or the folder itself.
    assert load_collection(SMALL, tmp_path / "dtd").fingerprint == dataset.fingerprint


def test_published_counts_are_demanded(textures, tmp_path):
    published = find_collection("dtd")
    assert (published.classes, published.images) == (47, 5_640)
    wrong = replace(SMALL, classes=47, images=5_640)
    with pytest.raises(DataError, match=r"2 classes and 4 images; dtd must have 47 .* 5,640"):
        downloaded(wrong, tmp_path, *textures, root=tmp_path)


def test_a_missing_image_and_a_bad_line_are_named(textures, tmp_path):
    downloaded(SMALL, tmp_path, *textures, root=tmp_path)
    (tmp_path / "dtd/images/banded/banded_0005.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 4 images .* missing or empty: 'banded/banded_0005"):
        load_collection(SMALL, tmp_path)
    for line in ("banded_0005.jpg", "banded/a b.jpg", "banded/deep/1.jpg"):
        (tmp_path / "dtd/labels/val1.txt").write_text(line)
        with pytest.raises(DataError, match=r"val1.txt, line 1: .* is not 'TEXTURE/IMAGE.jpg'"):
            load_collection(SMALL, tmp_path)
    (tmp_path / "dtd/labels/val1.txt").unlink()
    with pytest.raises(DataError, match=r"not whole: it lacks labels/val1.txt"):
        load_collection(SMALL, tmp_path)
