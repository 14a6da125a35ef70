"""Names of classes and files as text that can be printed, stored and compared anywhere."""

from __future__ import annotations

import unicodedata

# Control characters, bytes that are not UTF-8 (surrogates), line and paragraph separators.
_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})


def as_text(name: str) -> str:
    r"""The name as printable text of any script, in Unicode's composed form (NFC).

    The two ways to write an accent give one name. A line break reads `\n`, a byte that is not
    UTF-8 reads `\xff`, so a name is always one line and valid UTF-8.
    """
    if name.isascii() and name.isprintable():
        return name
    composed = unicodedata.normalize("NFC", _from_utf8(name))
    return composed if composed.isprintable() else "".join(map(_printable, composed))


def _from_utf8(name: str) -> str:
    """The name where a locale without UTF-8 left Python the bytes of one."""
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # halves of characters, which no file name has
        return name


def _printable(character: str) -> str:
    if unicodedata.category(character) not in _UNPRINTABLE:
        return character
    if "\udc80" <= character <= "\udcff":  # how Python holds a byte that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
