"""Write the pages that follow from the code: python docs/generate"""

from __future__ import annotations

from pathlib import Path

import api
import backbones
import commands_page
import methods
import names

DOCS = Path(__file__).parents[1]


def pages() -> dict[str, str]:
    """The text of every generated page by its path below docs."""
    return {
        "methods.md": methods.page(),
        "commands.md": commands_page.page(),
        "names.md": names.page(),
        "api.md": api.page(),
        "backbones.md": backbones.page(),
    }


if __name__ == "__main__":
    for name, text in pages().items():
        (DOCS / name).parent.mkdir(exist_ok=True)
        (DOCS / name).write_text(text)
