"""Variables of MATLAB files, which SciPy reads in a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from oodml.data.collections import matlab_lists
from oodml.data.collections.matlab_lists import read_mat
from oodml.errors import DataError


def cells(*values: Any) -> Any:
    array = np.empty((1, len(values)), object)
    array[0] = values
    return array


def read(path: Path, variable: str = "x") -> list[Any]:
    return read_mat(path, variable, lambda element: element)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    records = np.array([[(1.5, "car_ims/000001.jpg", 14), (2.0, "é ü", 3)]],
                       [("bbox_x1", object), ("fname", object), ("class", object)])  # fmt: skip
    path = tmp_path_factory.mktemp("mat") / "whole.mat"
    names = cells("AM General Hummer SUV 2000", "日本", "a")
    numbers = np.arange(6, dtype=np.uint8).reshape(2, 3)
    savemat(path, {"x": records, "names": names, "numbers": numbers, "one": "text", "none": []})
    return path


def test_numbers_cells_structs_and_text_are_plain_values_column_after_column(whole: Path) -> None:
    assert read(whole) == [
        {"bbox_x1": 1.5, "fname": "car_ims/000001.jpg", "class": 14},
        {"bbox_x1": 2.0, "fname": "é ü", "class": 3},
    ]
    assert read(whole, "names") == ["AM General Hummer SUV 2000", "日本", "a"]
    assert read(whole, "numbers") == [0, 3, 1, 4, 2, 5]
    assert (read(whole, "one"), read(whole, "none")) == (["text"], [])


def test_a_module_beside_the_user_is_not_imported_by_the_reader(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(tmp_path)
    assert read(whole, "one") == ["text"]


@pytest.mark.parametrize("content", [b"", bytes(200), bytes(125) + b"\1IM" + b"\x0f" * 40])
def test_what_is_no_such_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.mat"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.mat has no readable variable 'x'") as error:
        read(path)
    assert "\n" not in str(error.value)


def test_absent_variables_files_and_values_that_do_not_fit_are_one_line(whole: Path) -> None:
    for path, variable, parse in (
        (whole, "absent", str),
        (whole.with_name("absent.mat"), "x", str),
        (whole, "names", int),
    ):
        with pytest.raises(DataError, match=f"no readable variable '{variable}'"):
            read_mat(path, variable, parse)


def test_a_reader_that_needs_too_much_memory_or_dies_is_one_line(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matlab_lists, "_MEMORY", 100 << 20)
    with pytest.raises(DataError):
        read(whole)
    monkeypatch.setattr(matlab_lists, "_READ", "import os; os.abort()")
    with pytest.raises(DataError, match="died"):
        read(whole)


def test_damage_is_one_line_or_harmless(whole: Path, tmp_path: Path) -> None:
    content, draw = whole.read_bytes(), np.random.default_rng(1)
    path = tmp_path / "damaged.mat"
    for _ in range(8):
        damaged = bytearray(content)
        for place in draw.integers(128, len(content), 3):
            damaged[place] = draw.integers(256)
        path.write_bytes(damaged[: draw.integers(128, len(content))])
        try:
            read(path)
        except DataError as error:
            assert "\n" not in str(error)
