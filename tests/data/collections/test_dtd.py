from dataclasses import replace

import pytest
from small_archives import download_and_load, picture, small_collection

from oodml.data.collections.collection import find_collection
from oodml.data.collections.verified import load_collection
from oodml.errors import DataError

LISTS = {
    "train1": ["banded/banded_0002.jpg", "polka-dotted/polka-dotted_0004.jpg"],
    "val1": ["banded/banded_0005.jpg"],
    "test1": ["polka-dotted/polka-dotted_0001.jpg"],
}


@pytest.fixture
def textures(tmp_path):
    names = [name for each in LISTS.values() for name in each]
    files = {f"dtd/images/{name}": picture() for name in names}
    files |= {f"dtd/labels/{key}.txt": "\n".join(each).encode() for key, each in LISTS.items()}
    files["dtd/images/banded/.directory"] = b"[Dolphin]"
    archives = {"dtd-r1.0.1.tar.gz": files}
    return small_collection("dtd", archives, tmp_path, classes=2, images=4)


def test_the_three_lists_make_one_pool(textures, tmp_path):
    dataset = download_and_load(textures, tmp_path)
    assert dataset.class_names == ("banded", "polka-dotted")
    assert dataset.labels.tolist() == [0, 0, 1, 1]
    assert dataset.sample_names[:2] == ("banded/banded_0002.jpg", "banded/banded_0005.jpg")
    assert (dataset.name, dataset.source, dataset.groups) == ("dtd", "dtd", None)
    assert dataset[0][0].size == (4, 4)
    # As torchvision lays it: the folder above is given, or the folder itself.
    assert load_collection(textures, tmp_path / "dtd").fingerprint == dataset.fingerprint


def test_published_counts_are_demanded(textures, tmp_path):
    published = find_collection("dtd")
    assert (published.classes, published.images) == (47, 5_640)
    wrong = replace(textures, classes=47, images=5_640)
    with pytest.raises(DataError, match=r"2 classes and 4 images; dtd must have 47 .* 5,640"):
        download_and_load(wrong, tmp_path)


def test_a_missing_image_and_a_bad_line_are_named(textures, tmp_path):
    download_and_load(textures, tmp_path)
    (tmp_path / "dtd/images/banded/banded_0005.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 4 images .* missing or empty: 'banded/banded_0005"):
        load_collection(textures, tmp_path)
    for line in ("banded_0005.jpg", "banded/a b.jpg", "banded/deep/1.jpg"):
        (tmp_path / "dtd/labels/val1.txt").write_text(line)
        with pytest.raises(DataError, match=r"val1.txt, line 1: .* is not 'TEXTURE/IMAGE.jpg'"):
            load_collection(textures, tmp_path)
    (tmp_path / "dtd/labels/val1.txt").unlink()
    with pytest.raises(DataError, match=r"not whole: it lacks labels/val1.txt"):
        load_collection(textures, tmp_path)
