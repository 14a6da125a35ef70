import pytest
from data.collections.conftest import downloaded, lay_out, pack, small

from oodml.data.collections.download import load_collection
from oodml.data.collections.registry import find_collection
from oodml.errors import DataError

HOME = "omniglot-py"
SMALL = small("omniglot", 3, 6)


def drawings(origin, alphabet, *characters):
    return {
        f"{origin}/{alphabet}/character{character:02d}/{character:04d}_{person:02d}.png": None
        for character in characters
        for person in (1, 2)
    }


@pytest.fixture
def characters():
    background = drawings("images_background", "Alphabet_of_the_Magi", 1, 2)
    background["images_background/.DS_Store"] = b"Bud1"
    background["images_background/Alphabet_of_the_Magi/.DS_Store"] = b"Bud1"
    evaluation = drawings("images_evaluation", "Angelic", 1)
    return [background, evaluation]


def test_both_sets_are_one_pool_with_alphabets_as_groups(characters, tmp_path):
    dataset = downloaded(SMALL, tmp_path, *characters, root=tmp_path)
    assert dataset.class_names == (
        "Alphabet of the Magi character01",
        "Alphabet of the Magi character02",
        "Angelic character01",
    )
    assert dataset.groups == ("Alphabet of the Magi", "Alphabet of the Magi", "Angelic")
    assert dataset.sample_names[0] == (
        "images_background/Alphabet_of_the_Magi/character01/0001_01.png"
    )
    assert dataset.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert dataset.paths[5].name == "0001_02.png"
    assert dataset[5][0].size == (6, 6)


def test_published_counts_are_demanded(characters, tmp_path):
    published = find_collection("omniglot")
    assert (published.classes, published.images) == (1_623, 32_460)
    downloaded(SMALL, tmp_path, *characters, root=tmp_path)
    path = tmp_path / HOME / "images_evaluation/Angelic/character01/0001_01.png"
    content = path.read_bytes()
    path.with_name("0001_03.png").write_bytes(content)
    with pytest.raises(DataError, match=r"3 classes and 7 images; omniglot must have .* 6 images"):
        load_collection(SMALL, tmp_path)
    path.with_name("0001_03.png").unlink()
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"1 of 6 images .* missing or empty: .*0001_01.png"):
        load_collection(SMALL, tmp_path)


def test_half_of_it_is_not_taken_for_the_whole(characters, tmp_path):
    pack(tmp_path / "images_background.zip", characters[0])
    with pytest.raises(DataError, match=r"images_background.zip exists but is not extracted"):
        load_collection(SMALL, tmp_path)


def test_a_missing_set_is_named(characters, tmp_path):
    lay_out(tmp_path / HOME, characters[0])
    with pytest.raises(DataError, match="not whole: it lacks images_evaluation"):
        load_collection(SMALL, tmp_path)


def test_an_alphabet_in_both_sets_is_an_error(characters, tmp_path):
    downloaded(SMALL, tmp_path, *characters, root=tmp_path)
    home = tmp_path / HOME
    (home / "images_background/Angelic/character01").mkdir(parents=True)
    with pytest.raises(DataError, match="'Angelic' stands in images_background and in images_eval"):
        load_collection(SMALL, tmp_path)
