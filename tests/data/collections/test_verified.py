from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from data.collections.conftest import lay_out

from oodml.data import collection_names, load_dataset
from oodml.data.collections.download import Counts, check_counts, count, load_collection
from oodml.data.collections.registry import (
    Collection,
    Listed,
    all_collections,
    find_collection,
    pool,
    root_of,
)
from oodml.data.dataset import Dataset
from oodml.errors import DataError, UsageError


def load_fruit(home: Path) -> Dataset:
    paths = sorted(home.glob("*/*.png"))
    return pool(
        "fruit",
        home,
        [Listed(path.parent.name, f"{path.parent.name}/{path.name}", "folder") for path in paths],
    )


FRUIT = Collection("fruit", "two fruits", load_fruit, classes=2, images=5, folder="fruit",
                   how_to_get="Ask the gardener.")  # fmt: skip


@pytest.fixture
def fruit(tmp_path: Path) -> Path:
    files = dict.fromkeys(f"fruit/{name}/{i}.png" for name in ("apple", "pear") for i in range(2))
    return lay_out(tmp_path, {**files, "fruit/pear/9.png": None})


def test_counts_must_be_those_published(fruit: Path) -> None:
    assert len(load_collection(FRUIT, fruit)) == 5
    for change in ({"classes": 3}, {"images": 6}, {"images": 4}):
        with pytest.raises(DataError, match=r"holds 2 classes and 5 images; .* Ask the gardener"):
            load_collection(replace(FRUIT, **change), fruit)
    assert len(load_collection(replace(FRUIT, classes=None, images=None), fruit)) == 5


def test_a_class_of_one_image_is_left_out_and_still_counted(
    fruit: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (fruit / "fruit/apple/1.png").unlink()
    dataset = load_collection(replace(FRUIT, images=4), fruit)
    assert dataset.class_names == ("pear",)
    assert dataset.skipped == ("apple/0.png",)
    assert "fruit: left out 1 classes of a single image" in caplog.text
    check_counts(replace(FRUIT, images=4), dataset, fruit)
    (fruit / "fruit/pear/0.png").unlink()
    (fruit / "fruit/pear/1.png").unlink()
    with pytest.raises(DataError, match="no class of fruit has more than one image"):
        load_collection(FRUIT, fruit)


def test_every_class_needs_a_group(fruit: Path) -> None:
    listed = [Listed("apple", "apple/0.png", "x"), Listed("pear", "pear/0.png", "x")]
    with pytest.raises(DataError, match="1 of 2 classes of fruit have no group: 'pear'"):
        pool("fruit", fruit / "fruit", listed, groups={"apple": "stone"})


@pytest.mark.parametrize("name", ["/etc/passwd", "a/../../b", "", "a\0b", ".."])
def test_a_list_cannot_name_files_outside(fruit: Path, name: str) -> None:
    with pytest.raises(DataError, match="is not a path inside the folder"):
        pool("fruit", fruit, [Listed("apple", name, "line 1")])


def test_one_image_under_two_spellings_is_listed_twice(fruit: Path) -> None:
    listed = [Listed("a", "apple/0.png", "line 1"), Listed("b", "apple/./0.png", "line 2")]
    with pytest.raises(DataError, match=r"line 2: .* is listed a second time \(first: line 1\)"):
        pool("fruit", fruit / "fruit", listed)


def test_roots_are_given_or_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("OODML_DATA", raising=False)
    assert root_of(FRUIT) == tmp_path / ".cache/oodml/collections/fruit"
    assert root_of(FRUIT, "~/here") == tmp_path / "here"
    monkeypatch.setenv("OODML_DATA", str(tmp_path / "all"))
    assert root_of(FRUIT) == tmp_path / "all/fruit"


def test_what_is_not_there_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_dataset("cub200", root=tmp_path / "my birds")
    assert str(caught.value).startswith(f"there is no cub200 at {tmp_path / 'my birds'}: it would")
    assert str(caught.value).endswith(
        f"Type: oodml dataset download cub200 --root '{tmp_path / 'my birds'}'"
    )
    with pytest.raises(UsageError, match=r"unknown collection 'cub'\. Did you mean 'cub200'"):
        find_collection("cub")


@pytest.mark.parametrize("name", sorted(all_collections()))
def test_every_collection_is_described_and_its_groups_are_said(name: str) -> None:
    collection = find_collection(name)
    assert dict(collection_names())[name] == collection.description
    assert collection.name == name
    assert collection.licence
    assert collection.homepage.startswith("http")
    assert collection.archives or collection.how_to_get
    for archive in collection.archives:
        assert not archive.checksum or len(archive.checksum) in (32, 64)
        assert not archive.checksum or int(archive.checksum, 16)
        assert archive.url.startswith("http") or collection.how_to_get
    page = (Path(__file__).parents[3] / "docs/collections.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
    counts = [collection.classes, collection.images]
    assert all(f"| {count:,} |" in row for count in counts if count)
    assert (collection.groups or "none") in row


def test_naming_a_collection_imports_neither_torch_nor_scipy() -> None:
    code = (
        "import sys; from oodml.data import collection_names; collection_names()\n"
        "print([name for name in ('torch', 'scipy', 'datasets') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_folder_in_the_place_of_an_image_is_a_missing_image(fruit: Path) -> None:
    listed = [Listed("apple", "apple/0.png", "line 1"), Listed("apple", "pear", "line 2")]
    listed.append(Listed("apple", 300 * "x", "line 3"))
    strange = replace(FRUIT, load=lambda home: pool("fruit", home, listed), classes=1, images=3)
    with pytest.raises(DataError, match=r"2 of 3 images .* are missing or empty: 'pear', 'xxx"):
        load_collection(strange, fruit)


def test_a_missing_image_of_a_class_of_its_own_is_not_counted_as_there(fruit: Path) -> None:
    listed = [Listed("apple", f"apple/{i}.png", "x") for i in range(2)]
    listed.append(Listed("fig", "fig/0.png", "x"))
    odd = replace(FRUIT, load=lambda home: pool("fruit", home, listed), images=3)
    with pytest.raises(DataError, match="holds 1 classes and 2 images; fruit must have 2"):
        load_collection(odd, fruit)
    (fruit / "fruit/fig").mkdir()
    (fruit / "fruit/pear/9.png").rename(fruit / "fruit/fig/0.png")
    assert load_collection(odd, fruit).skipped == ("fig/0.png",)


def test_what_is_refused_is_told_with_what_to_type_and_the_rest_is_there(fruit: Path) -> None:
    refused: list[DataError] = []
    (fruit / "fruit/pear/0.png").write_bytes(b"")
    dataset = load_collection(FRUIT, fruit, refuse=refused.append)
    assert len(dataset) == 5 and dataset.sizes[2] == 0
    assert count(FRUIT, dataset) == Counts(2, 2, 5, 4)
    first, second = map(str, refused)
    assert "1 of 5 images that fruit lists are missing or empty: 'pear/0.png'." in first
    assert "holds 2 classes and 4 images; fruit must have 2 classes and 5 images." in second
    assert all(text.endswith("Ask the gardener.") for text in (first, second))
