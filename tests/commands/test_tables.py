"""Names in what the commands print: none controls the terminal, breaks a table or is lost."""

from __future__ import annotations

import csv
import io
import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from commands.conftest import oodml
from conftest import make_features

from oodml.commands.tables import PrintableFormatter, Table, echo, json_text, on_one_line
from oodml.runs.record import RunRecord
from oodml.runs.spec import RunSpec
from oodml.runs.store import Store
from oodml.splits.construction.build_ladder import build_ladder
from oodml.text import printable

# Clears the screen, sets the title, turns the writing, ends the line, and stands for a byte.
HOSTILE = "a\x1b[2Jb\x1b]0;owned\x07c\x9b31md\u202ee\r\nf\u2028g\x00h\udce9|i"
ORDERS = set("\x1b\x07\x9b\u202e\r\u2028\x00\udce9")


def test_orders_are_spelled_out_and_letters_stay() -> None:
    assert printable("a\x1b[2Jb\tc\nd") == "a\\x1b[2Jb\tc\nd"
    assert on_one_line("a\x9b\u202e\r\nb\tc") == "a\\x9b\\u202e\\r\\nb\\tc"
    for text in ("Käfer", "ヤマガラ", "طائر", "नीलकंठ", "👩‍🔬 ✅", "ﬁ´~^"):
        assert printable(text) == text
    assert not ORDERS & set(printable(HOSTILE))


@pytest.mark.parametrize("table_format", ["text", "markdown", "latex", "csv", "json"])
def test_a_table_of_hostile_names_is_a_table(table_format: str) -> None:
    text = Table(["method", HOSTILE], [[HOSTILE, 1.5], ["plain", None]]).render(table_format)
    if table_format == "csv":
        rows = list(csv.reader(io.StringIO(text, newline="")))
        assert rows[0][1] == rows[1][0] == HOSTILE
        return
    assert not ORDERS & set(text)
    if table_format == "json":
        assert [row["method"] for row in json.loads(text)] == [HOSTILE, "plain"]
        return
    body = text.splitlines()
    rows = [line for line in body if "owned" in line or "plain" in line]
    assert len(rows) == 3, "a name with a line feed is still one row"
    if table_format == "markdown":
        bars = [line.replace("\\|", "").count("|") for line in body]
        assert bars == [3] * 4
    if table_format == "latex":
        assert "\\textbackslash{}x1b[2Jb" in text and rows[0].count("&") == 1


def test_markdown_shows_markup_in_names_as_text() -> None:
    text = Table(["m"], [["<img src=x>`[a](javascript:b)"]]).render("markdown")
    assert "\\<img src=x>\\`\\[a](javascript:b)" in text


def test_latex_specials_are_escaped_each() -> None:
    text = Table(["m"], [["a&b%c$d#e_f{g}h~i^j\\k<l>m"]]).render("latex")
    assert (
        r"a\&b\%c\$d\#e\_f\{g\}h\textasciitilde{}i\textasciicircum{}j\textbackslash{}k$<$l$>$m"
    ) in text


def test_json_is_the_same_value_without_orders() -> None:
    text = json_text({HOSTILE: [HOSTILE, "ä"]})
    assert json.loads(text) == {HOSTILE: [HOSTILE, "ä"]} and not ORDERS & set(text)
    assert "ä" in text


def test_exact_text_is_exact_but_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    echo("a\x1bb", exact=True)
    echo("a\x1bb")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    echo("a\x1bb", exact=True)
    assert capsys.readouterr().out == "a\x1bb\na\\x1bb\na\\x1bb\n"


def test_log_lines_are_printable() -> None:
    record = logging.makeLogRecord({"msg": "left out: %s", "args": (HOSTILE,)})
    assert not ORDERS & set(PrintableFormatter("%(message)s").format(record))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of runs in which every name is hostile."""
    plain = make_features(8, 4, 4)
    source = replace(plain.source, dataset=HOSTILE, backbone=HOSTILE, preprocessing=HOSTILE)
    names = tuple(f"{number}{HOSTILE}" for number in range(8))
    features = replace(plain, class_names=names, source=source)
    ladder = build_ladder(features, rungs=2, swap_size=1, easier=False)
    folder = tmp_path_factory.mktemp("hostile")
    ladder.save(folder / "ladder.json")
    store = Store(folder)
    for split in ladder.rungs:
        spec = RunSpec.on(source, split.id, HOSTILE, hyperparameters={HOSTILE: HOSTILE})
        shift = split.shift.to_json() if split.shift else {}
        store.finish(RunRecord(spec, shift, {"recall_at_1": 0.5}, {}, {HOSTILE: HOSTILE}, 1.0))
        store.note_grid([spec])
        store.fail("0" * 12, f"Traceback\n{HOSTILE}")
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ["table", "{0}"],
        ["table", "{0}", "--format", "markdown"],
        ["table", "{0}", "--format", "latex"],
        ["table", "{0}", "--format", "json"],
        ["table", "{0}", "--view", "scores"],
        ["table", "{0}", "--metric", "\x1b[2J"],
        ["status", "{0}"],
        ["status", "{0}", "--format", "json"],
        ["ladder", "show", "{0}/ladder.json", "--moved", "5"],
        ["ladder", "show", "{0}/ladder.json", "--format", "json"],
        ["ladder", "compare", "{0}/ladder.json", "{0}/ladder.json"],
        ["ladder", "show", "{0}/\x1b[2J.json"],
    ],
    ids=" ".join,
)
def test_no_command_lets_a_name_order_the_terminal(arguments: list[str], results: Path) -> None:
    result = oodml(*(each.format(results) for each in arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.output and not ORDERS & set(result.output), result.output
