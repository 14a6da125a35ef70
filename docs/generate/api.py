"""docs/api.md: the public names, for mkdocstrings to show."""

from __future__ import annotations

import oodml

_HEAD = """# From Python

The names of `import oodml`. Each is loaded on first use, so the import itself does not take torch
in. Written by `python docs/generate`; the site shows signature and docstring in place of each line
that begins with `:::`.
"""


def page() -> str:
    """The page of the public names as Markdown."""
    names = "".join(
        f"\n::: {oodml._HOMES[name]}.{name}\n    options:\n      heading_level: 2\n"
        for name in oodml.__all__
    )
    return _HEAD + names
