"""The table of docs/backbones.md, from the catalogue; the words around it are written by hand."""

from __future__ import annotations

from pathlib import Path

from oodml.features.backbones.catalogue import NETWORKS

PAGE = Path(__file__).parents[1] / "backbones.md"
_BEGIN, _END = "<!-- table: python docs/generate -->\n", "<!-- end of table -->\n"
_HEADER = "name|what it is|dimensions|input|trained on|paper|licence|download MB|SHA-256 begins"


def page() -> str:
    """The page as it stands, with a new table."""
    before, rest = PAGE.read_text(encoding="utf-8").split(_BEGIN)
    _, after = rest.split(_END)
    return f"{before}{_BEGIN}{_table()}{_END}{after}"


def _table() -> str:
    lines = [_HEADER.split("|"), ["---"] * 9]
    for network in NETWORKS.values():
        digits = (network.weights.sha256 or "")[:8] or _digits(network.weights.names)
        sizes = [str(number) for number in (network.dimension, network.image_size)]
        made = [network.training, network.paper, network.licence]
        row = [f"`{network.name}`", network.summary, *sizes, *made]
        lines.append([*row, str(network.megabytes or "none"), digits])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _digits(names: tuple[str, ...]) -> str:
    return names[0].rpartition("-")[2].partition(".")[0] if names else "-"
