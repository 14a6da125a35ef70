import numpy as np
import pytest
from data.collections.conftest import downloaded, small

from oodml.data.collections import cifar100
from oodml.data.collections.download import load_collection
from oodml.data.collections.registry import find_collection
from oodml.errors import DataError

HOME = "cifar-100-binary"
# Superclass and class of each image; both lists are in alphabetical order as published.
TRAIN = [(0, 1), (1, 0), (0, 1), (1, 2)]
TEST = [(1, 0), (1, 2)]
SMALL = small("cifar100", 3, 6)
FINE, COARSE = b"apple\naquarium_fish\npear\n", b"fish\nfruit_and_vegetables\n"


def records(labels, shade=0):
    """The binary layout: superclass, class, then a plane each of red, green and blue, by rows."""
    rows = []
    for number, pair in enumerate(labels):
        image = np.zeros((3, 32, 32), np.uint8)
        image[0], image[1, 0], image[2, :, 0] = number + shade, 7, 9
        rows.append(bytes(pair) + image.tobytes())
    return b"".join(rows)


@pytest.fixture
def things():
    files = {"train.bin": records(TRAIN), "test.bin": records(TEST, 50),
             "fine_label_names.txt": FINE, "coarse_label_names.txt": COARSE}  # fmt: skip
    return [{f"{HOME}/{name}": each for name, each in files.items()}]


def test_records_become_image_files_of_classes_in_superclasses(things, tmp_path):
    dataset = downloaded(SMALL, tmp_path, *things, root=tmp_path)
    assert dataset.class_names == ("apple", "aquarium fish", "pear")
    assert dataset.groups == ("fruit and vegetables", "fish", "fruit and vegetables")
    assert dataset.sample_names == (
        "apple/test_00000.ppm", "apple/train_00001.ppm", "aquarium_fish/train_00000.ppm",
        "aquarium_fish/train_00002.ppm", "pear/test_00001.ppm", "pear/train_00003.ppm",
    )  # fmt: skip
    image, label = dataset[4]
    assert (image.size, label) == ((32, 32), 2)
    pixels = np.asarray(image)
    assert pixels[5, 5].tolist() == [51, 0, 0]
    assert pixels[0, 5].tolist() == [51, 7, 0]
    assert pixels[5, 0].tolist() == [51, 0, 9]
    assert set(dataset.sizes) == {3_072 + 13}


def test_images_are_written_once(things, tmp_path, monkeypatch):
    before = downloaded(SMALL, tmp_path, *things, root=tmp_path)
    monkeypatch.setattr(cifar100, "_write", None)
    lock = tmp_path / HOME / ".images.lock"
    lock.unlink()
    assert load_collection(SMALL, tmp_path).fingerprint == before.fingerprint
    # A folder that may only be read will do.
    assert not lock.exists()


def test_a_killed_conversion_is_not_taken_for_whole(things, tmp_path, monkeypatch):
    write_bytes = cifar100.Path.write_bytes

    def killed(path, content):
        if path.name == "train_00003.ppm":
            raise KeyboardInterrupt
        return write_bytes(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(cifar100.Path, "write_bytes", killed)
        with pytest.raises(KeyboardInterrupt):
            downloaded(SMALL, tmp_path, *things, root=tmp_path)
    assert not (tmp_path / HOME / "images").exists()
    assert len(load_collection(SMALL, tmp_path)) == 6
    assert not (tmp_path / HOME / ".images.unfinished").exists()
    (tmp_path / HOME / "images/pear/test_00001.ppm").unlink()
    with pytest.raises(DataError, match=r"1 of 6 images .*: 'pear/test_00001.ppm'"):
        load_collection(SMALL, tmp_path)


def test_published_counts_are_demanded(things, tmp_path):
    published = find_collection("cifar100")
    assert (published.classes, published.images) == (100, 60_000)
    downloaded(SMALL, tmp_path, *things, root=tmp_path)
    (tmp_path / HOME / "train.bin").write_bytes(records(TRAIN[:3]))
    with pytest.raises(DataError, match=r"3 classes and 5 images; cifar100 must have .* 6 images"):
        load_collection(SMALL, tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.bin", records(TRAIN)[:-1], "no multiple of 3,074: it is cut short"),
        ("test.bin", b"", "test.bin has 0 bytes"),
        ("train.bin", records([*TRAIN, (0, 3)]), "labels beyond the 2 and 3 that have names"),
        ("train.bin", records([*TRAIN, (2, 0)]), "labels beyond the 2 and 3 that have names"),
        ("test.bin", records([(0, 0)]), "test.bin: class 'apple' is in group 'fish' here and in"),
        ("fine_label_names.txt", b"apple\n../../fish\npear", "'../../fish' is none"),
        ("fine_label_names.txt", b"apple\napple\npear", "some stand twice"),
        ("coarse_label_names.txt", b"\xff", "not a readable UTF-8 text file"),
    ],
)
def test_damaged_files_are_named(things, tmp_path, name, content, message):
    downloaded(SMALL, tmp_path, *things, root=tmp_path)
    (tmp_path / HOME / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_collection(SMALL, tmp_path)
