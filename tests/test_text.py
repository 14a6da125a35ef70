from __future__ import annotations

import pytest

from oodml.errors import UsageError
from oodml.text import positive_numbers


def test_numbers_with_dashes_between_them_are_read() -> None:
    assert positive_numbers("3-5-8", int, "heads") == [3, 5, 8]
    assert positive_numbers("0.8-1-1.25", float, "actions") == [0.8, 1.0, 1.25]


@pytest.mark.parametrize("wrong", ["", "3-", "3,5", "0-1", "a", "-3", "1.5", "1-inf", "1-nan"])
def test_other_text_is_refused_with_what_it_is_for(wrong: str) -> None:
    for kind in (int, float):
        if (kind, wrong) != (float, "1.5"):
            with pytest.raises(UsageError, match=f"heads='{wrong}'"):
                positive_numbers(wrong, kind, "heads")
