"""write_report: the report as one self-contained HTML file that loads nothing from a network."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from oodml.eval.report.content import report_content
from oodml.eval.report.definitions import definitions
from oodml.files import atomic_write
from oodml.text import printable

if TYPE_CHECKING:
    from oodml.data.dataset import Dataset
    from oodml.features.features import Features
    from oodml.runs.store import Store
    from oodml.splits.ladder import Ladder

# In this order: each uses names of those before it.
SCRIPTS = (
    "page", "models", "scales", "markers", "axes", "lines", "pointing", "chart", "curves", "table",
    "pairs", "few_shot", "strip", "plane", "ladder", "gallery", "transfer", "sides",
    "transfer_tables", "reference_gallery", "transfer_section", "runs", "start",
)  # fmt: skip


def write_report(
    store: Store,
    ladder: Ladder,
    path: str | Path,
    *,
    metric: str = "recall_at_1",
    features: Features | None = None,
    dataset: Dataset | None = None,
) -> None:
    """Write the report of all finished runs of `store` on `ladder` as one HTML file.

    It needs no network. `metric` is the one shown first. `features`, those the ladder was built
    on, give it the plane of class means, the groups and the gallery of the frozen features;
    `dataset` gives it pictures. Galleries of trained methods come from `embeddings.npz` in the
    runs' directories. Equal stores give equal bytes. Raises `DataError` if no finished run is on
    the ladder or runs cannot be compared, `UsageError` if no run has the metric.
    """
    content, pictures = report_content(
        store, ladder, metric=metric, features=features, dataset=dataset
    )
    with atomic_write(path) as file:
        terms = definitions(ladder, reference=content["transfer"] is not None)
        file.write(_page(content, pictures, terms).encode())


def _page(content: dict[str, Any], pictures: list[str], terms: Iterable[tuple[str, str]]) -> str:
    style = _part("style.css")
    script = "(() => {\n" + "\n".join(_part(f"scripts/{name}.js") for name in SCRIPTS) + "})();\n"
    return Template(_part("page.html")).substitute(
        title=_words(f"oodml: {content['features']['dataset']}"),
        policy=_policy(style, script),
        style=style,
        script=script,
        definitions="\n".join(
            f"<dt>{_words(term)}</dt><dd>{_words(words)}</dd>" for term, words in terms
        ),
        content=embedded(content),
        pictures=embedded(pictures),
    )


def _words(text: str) -> str:
    return html.escape(printable(text))


# An escaped backslash, or an escaped bidirectional control character (U+061C, 200E, ...).
_TURNS = re.compile(r"\\\\|\\u(?=061c|200[ef]|202[a-e]|206[6-9])")


def embedded(value: Any) -> str:
    """JSON that can stand in a script element: no character of it can end or open a tag.

    Bidirectional control characters are shown as their code points instead.
    """
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    text = _TURNS.sub(lambda found: "\\\\" if found[0] == "\\\\" else "\\\\u", text)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _policy(style: str, script: str) -> str:
    """A content security policy that allows this style and this script alone."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; "
        f"script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _part(name: str) -> str:
    return files("oodml.eval.report").joinpath(name).read_text(encoding="utf-8")
