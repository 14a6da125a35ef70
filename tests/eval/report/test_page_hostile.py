"""Names in the report: they are read, and none becomes markup, script or a turn of the writing."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import make_features

from oodml.eval.report.page import embedded, write_report
from oodml.runs.record import RunRecord
from oodml.runs.spec import RunSpec
from oodml.runs.store import Store
from oodml.splits.construction.build_ladder import build_ladder

NAMES = (
    "</script><script>boom()</script>",
    "<img src=x onerror=boom()>",
    "\" onmouseover=boom() x='",
    "<!--<script>",
    "]]>&lt;&#0;",
    "\u202eabc\u2066",
    "\\u202e",
    "caf\udce9\x00\x1b[2J\u2028",
)
TURNS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


class Elements(HTMLParser):
    """All elements with their attributes, and the text inside each script by its id."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.scripts: dict[str, str] = {}
        self._script: str | None = None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(name for name, _ in attrs)))
        self._script = (dict(attrs).get("id") or "") if tag == "script" else None

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data

    def handle_endtag(self, tag: str) -> None:
        self._script = None


def report(folder: Path, names: tuple[str, ...]) -> str:
    """The page of a ladder whose classes, dataset, network, method and versions are so named."""
    plain = make_features(8, 4, 4)
    word = names[0]
    source = replace(plain.source, dataset="".join(names), backbone=word, preprocessing=names[1])
    features = replace(plain, class_names=names, source=source, groups=names)
    ladder = build_ladder(features, rungs=2, swap_size=1, easier=False)
    store = Store(folder)
    for split in ladder.rungs:
        spec = RunSpec.on(source, split.id, "".join(names), hyperparameters={word: names[2]})
        shift = split.shift.to_json() if split.shift else {}
        store.finish(RunRecord(spec, shift, {"recall_at_1": 0.5}, {}, {word: names[1]}, 1.0))
    write_report(store, ladder, folder / "report.html", features=features)
    return (folder / "report.html").read_text(encoding="utf-8")


def test_no_name_becomes_an_element_an_attribute_or_script(tmp_path: Path) -> None:
    plain = Elements(report(tmp_path / "plain", tuple(f"class {n}" for n in range(8))))
    page = report(tmp_path / "hostile", NAMES)
    hostile = Elements(page)
    assert hostile.found == plain.found, "the same elements with the same attributes"
    assert not [name for _, names in hostile.found for name in names if name.startswith("on")]
    assert hostile.scripts.keys() == plain.scripts.keys()
    assert hostile.scripts[""] == plain.scripts[""], "the script itself holds no name"
    content = json.loads(hostile.scripts["content"])
    shown = content["ladder"]["classes"]["names"]
    assert {"<img src=x onerror=boom()>", "]]>&lt;&#0;", "\\u202eabc\\u2066"} <= set(shown)
    assert not set(TURNS) & set(page) and not set(TURNS) & set("".join(shown))


@pytest.mark.parametrize("value", ["\\", "\\\\", "\\u202e", "\\\\u202e", "\u202e", "\\\u202e", "é"])
def test_only_characters_that_turn_are_spelled_out(value: str) -> None:
    spelled = value.replace("\u202e", "\\u202e")
    assert json.loads(embedded([value])) == [spelled]
