from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oodml.errors import DataError
from oodml.files import digest
from oodml.splits.ladder import Ladder


def test_a_ladder_comes_back_as_it_was_saved(ladder: Ladder, tmp_path: Path) -> None:
    ladder.save(tmp_path / "ladder.json")
    assert Ladder.load(tmp_path / "ladder.json") == ladder


def tamper(ladder: Ladder, path: Path, change: Callable[[Any], Any], *, sign: bool) -> None:
    record = ladder.to_json()
    change(record)
    if sign:
        del record["digest"]
        record["digest"] = digest(record, 64)
    path.write_text(json.dumps(record))


def overlap(record: Any) -> None:
    record["rungs"][0]["test_classes"].append(record["rungs"][0]["train_classes"][0])


@pytest.mark.parametrize(
    ("change", "sign", "words"),
    [
        (lambda r: r["rungs"][0]["shift"].update(fid=3.0), False, "changed after it was written"),
        (lambda r: r.update(schema=99), True, "schema 99"),
        (lambda r: r.update(schema=2), True, "schema 2"),
        (overlap, True, "both sides"),
        (lambda r: r["rungs"].reverse(), True, "do not rise"),
        (lambda r: r["rungs"][0]["train_classes"].pop(), True, "changed by hand"),
        (lambda r: r["class_sizes"].clear(), True, "outside the pool"),
        (lambda r: r.update(rungs=[]), True, "without rungs"),
        (lambda r: r.pop("settings"), True, "not a valid ladder"),
        (lambda r: r.update(extra=1), True, "unknown keys"),
        (lambda r: r.update(rungs=7), True, "not a valid ladder"),
    ],
)
def test_a_changed_ladder_is_refused_by_name(
    ladder: Ladder, tmp_path: Path, change: Callable[[Any], Any], sign: bool, words: str
) -> None:
    path = tmp_path / "changed.json"
    tamper(ladder, path, change, sign=sign)
    with pytest.raises(DataError, match=words) as error:
        Ladder.load(path)
    assert "changed.json" in str(error.value)


def test_a_ladder_knows_its_rungs_and_images(ladder: Ladder) -> None:
    assert [ladder.rung_of(rung.id) for rung in ladder.rungs] == [0, 1, 2]
    assert ladder.rung_of("nothing") is None
    assert ladder.images(ladder.rungs[0].train_classes) == 12 * 8
    assert "sample level" in ladder.fid_label()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_file_with_one_value_changed_is_refused_by_name(
    data: st.DataObject, ladder: Ladder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.json"
    ladder.save(path)
    text = path.read_bytes()
    place = data.draw(st.integers(0, len(text) - 2))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != text[place]))
    Path(path).write_bytes(text[:place] + bytes([byte]) + text[place + 1 :])
    try:
        assert Ladder.load(path) == ladder, "a change of white space only may go by"
    except DataError as error:
        assert str(path) in str(error) and "\n" not in str(error)
