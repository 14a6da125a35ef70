"""What is generated stands in the docs as it is generated."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def test_the_methods_page_is_what_the_registry_says() -> None:
    specification = spec_from_file_location("generate_methods", DOCS / "generate_methods.py")
    assert specification is not None and specification.loader is not None
    module = module_from_spec(specification)
    specification.loader.exec_module(module)
    assert (DOCS / "methods.md").read_text() == module.page(), (
        "the registry has changed: python docs/generate_methods.py"
    )
