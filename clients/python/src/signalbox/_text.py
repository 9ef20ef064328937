"""Words of others in one line of bounded length: they go to logs, and to people.

Owns which characters are left out. Must not know whose words they are.
"""

from __future__ import annotations

import re

#: Controls, bidirectional ones too, line separators, and halves of characters.
_MISLEADING = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def one_line(text: str, most: int) -> str:
    """A text without what misleads who reads it, of so many characters at most."""
    return _MISLEADING.sub(" ", text).strip()[:most]
