"""A wrong line of a CSV of splits is named by its number."""

from __future__ import annotations

from pathlib import Path

import pytest

from oodml.errors import DataError
from oodml.splits.formats.csv import read_csv


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["rung,fid,side"], "first line must be rung,fid,side,class"),
        (["rung,fid,side,class", "1,2,train"], "line 2 is not of the form"),
        (["rung,fid,side,class", "1,x,train,a"], "line 2 is not of the form"),
        (["rung,fid,side,class", "1,2,trian,a"], "line 2: side must be"),
        (["rung,fid,side,class", "1,nan,train,a"], "FID a finite number"),
        (["rung,fid,side,class", "1,2,train,a", "1,3,test,b"], "line 3: rung 1 has two FIDs"),
    ],
)
def test_a_wrong_csv_is_refused_by_line(lines: list[str], words: str, tmp_path: Path) -> None:
    path = tmp_path / "splits.csv"
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=words):
        read_csv(path)
