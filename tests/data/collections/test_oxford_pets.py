import pytest
from data.collections.conftest import downloaded, picture, small

from oodml.data.collections.download import load_collection
from oodml.data.collections.registry import find_collection
from oodml.errors import DataError

# As the published file begins, with its six lines of explanation.
LIST = """#Image CLASS-ID SPECIES BREED ID
#ID: 1:37 Class ids
#SPECIES: 1:Cat 2:Dog
#BREED ID: 1-25:Cat 1:12:Dog
#All images with 1st letter as captial are cat images
#images with small first letter are dog images
Abyssinian_100 1 1 1
Abyssinian_101 1 1 1
american_bulldog_10 2 2 1
american_bulldog_203 2 2 1
"""
LISTED = [line.split()[0] for line in LIST.splitlines() if not line.startswith("#")]
HOME = "oxford-iiit-pet"
SMALL = small("oxford_pets", 2, 4)


@pytest.fixture
def pets():
    images = {f"images/{name}.jpg": None for name in LISTED}
    images["images/Abyssinian_101.jpg"] = picture("a.png")
    images |= {"images/Abyssinian_34.jpg": None, "images/Abyssinian_100.mat": b"MATLAB"}
    annotations = {
        "annotations/list.txt": LIST.encode(),
        "annotations/trimaps/._Abyssinian_100.png": b"",
    }
    return [images, annotations]


def test_the_listed_images_count_and_species_are_groups(pets, tmp_path):
    dataset = downloaded(SMALL, tmp_path, *pets, root=tmp_path)
    assert dataset.class_names == ("Abyssinian", "american bulldog")
    assert dataset.groups == ("cat", "dog")
    assert dataset.sample_names == tuple(f"{name}.jpg" for name in LISTED)
    assert dataset.paths[1].read_bytes() == picture("a.png")
    assert dataset[1][0].size == (6, 6)


def test_published_counts_are_demanded(pets, tmp_path):
    published = find_collection("oxford_pets")
    assert (published.classes, published.images) == (37, 7_349)
    downloaded(SMALL, tmp_path, *pets, root=tmp_path)
    (tmp_path / HOME / "annotations/list.txt").write_text("\n".join(LIST.splitlines()[:-2]))
    with pytest.raises(DataError, match="1 classes and 2 images; oxford_pets must have 2 classes"):
        load_collection(SMALL, tmp_path)


@pytest.mark.parametrize(
    "line", ["Abyssinian 1 1 1", "Abyssinian_1 1 3 1", "a_x 1 1 1", "_1 1 1 1", "a_1 1 1"]
)
def test_a_line_of_another_form_is_named(line, pets, tmp_path):
    downloaded(SMALL, tmp_path, *pets, root=tmp_path)
    (tmp_path / HOME / "annotations/list.txt").write_text(f"{LIST}{line}\n")
    with pytest.raises(DataError, match=r"line 11: '.*' is not 'IMAGE CLASS SPECIES BREED'"):
        load_collection(SMALL, tmp_path)


def test_two_species_and_missing_images_are_errors(pets, tmp_path):
    downloaded(SMALL, tmp_path, *pets, root=tmp_path)
    (tmp_path / HOME / "images" / "american_bulldog_10.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 4 images .*: 'american_bulldog_10.jpg'"):
        load_collection(SMALL, tmp_path)
    (tmp_path / HOME / "annotations/list.txt").write_text(f"{LIST}Abyssinian_1 1 2 1\n")
    with pytest.raises(DataError, match="line 11: class 'Abyssinian' is in group 'dog' here"):
        load_collection(SMALL, tmp_path)
