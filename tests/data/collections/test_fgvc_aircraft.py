import pytest
from data.collections.conftest import downloaded, small

from oodml.data.collections.download import load_collection
from oodml.data.collections.registry import find_collection
from oodml.errors import DataError

VARIANTS = {
    "trainval": ["0001 737-700", "0002 F/A-18", "0003 Cessna 172"],
    "test": ["0004 737-700", "0005 F/A-18", "0006 Cessna 172"],
}
MAKERS = {
    "trainval": ["0001 Boeing", "0002 McDonnell Douglas", "0003 Cessna"],
    "test": ["0004 Boeing", "0005 McDonnell Douglas", "0006 Cessna"],
}
DATA = "fgvc-aircraft-2013b/data"
SMALL = small("fgvc_aircraft", 3, 6)


@pytest.fixture
def aircraft():
    files = {f"{DATA}/images/{number:04d}.jpg": None for number in range(1, 8)}
    for level, lists in (("variant", VARIANTS), ("manufacturer", MAKERS)):
        for split, lines in lists.items():
            files[f"{DATA}/images_{level}_{split}.txt"] = "\n".join([*lines, ""]).encode()
    return [files]


def test_variants_are_classes_and_manufacturers_groups(aircraft, tmp_path):
    dataset = downloaded(SMALL, tmp_path, *aircraft, root=tmp_path)
    assert dataset.class_names == ("737-700", "Cessna 172", "F/A-18")
    assert dataset.groups == ("Boeing", "Cessna", "McDonnell Douglas")
    assert dataset.sample_names == tuple(f"{each}.jpg" for each in (
        "0001", "0004", "0003", "0006", "0002", "0005",
    ))  # fmt: skip
    assert dataset.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert dataset[5][0].size == (6, 6)


def test_published_counts_are_demanded(aircraft, tmp_path):
    published = find_collection("fgvc_aircraft")
    assert (published.classes, published.images) == (100, 10_000)
    downloaded(SMALL, tmp_path, *aircraft, root=tmp_path)
    for split in ("trainval", "test"):
        path = tmp_path / DATA / f"images_variant_{split}.txt"
        path.write_text("\n".join(path.read_text().splitlines()[:2]))
    with pytest.raises(
        DataError, match="2 classes and 4 images; fgvc_aircraft must have 3 classes"
    ):
        load_collection(SMALL, tmp_path)


def test_a_variant_of_two_manufacturers_or_of_none_is_an_error(aircraft, tmp_path):
    downloaded(SMALL, tmp_path, *aircraft, root=tmp_path)
    makers = tmp_path / DATA / "images_manufacturer_test.txt"
    makers.write_text("0004 Airbus\n0005 McDonnell Douglas\n0006 Cessna\n")
    conflict = (
        r"_variant_test.txt, line 1: class '737-700' is in group 'Airbus' here and .*'Boeing'"
    )
    with pytest.raises(DataError, match=conflict):
        load_collection(SMALL, tmp_path)
    makers.write_text("0004 Boeing\n0006 Cessna\n")
    with pytest.raises(DataError, match="line 2: image 0005 has no manufacturer"):
        load_collection(SMALL, tmp_path)
    makers.write_text("0004\n")
    with pytest.raises(DataError, match="line 1: '0004' is not 'IMAGE NAME'"):
        load_collection(SMALL, tmp_path)


def test_a_missing_image_is_named(aircraft, tmp_path):
    downloaded(SMALL, tmp_path, *aircraft, root=tmp_path)
    (tmp_path / DATA / "images" / "0002.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 of 6 images .* missing or empty: '0002.jpg'"):
        load_collection(SMALL, tmp_path)
