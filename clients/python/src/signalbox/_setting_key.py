"""The one spelling of a setting's key, as the server has it.

A key is cut into words, which are put into lower case and joined by `_`. A word ends at `_` and `-`; between a lower-case
letter or digit and an upper-case letter; and before the last letter of a run of upper-case letters where a lower-case letter
follows, but for a plural `s`. `.`, `:`, `@` and `+` separate parts that are treated alone.
"""

from __future__ import annotations

import re
from functools import lru_cache

_PARTS = re.compile(r"([.:@+])")
_BOUNDARY = re.compile(
    r"""
    (?<=[a-z0-9])(?=[A-Z])                       # maxRetries
    | (?<=[A-Z])(?=[A-Z][a-z])(?![A-Z]s(?![a-z]))  # HTTPTimeout, but allowedURLs
    """,
    re.VERBOSE,
)
_SEPARATORS = re.compile(r"[_-]+")
_LOWER = str.maketrans({chr(upper): chr(upper + 32) for upper in range(ord("A"), ord("Z") + 1)})


@lru_cache(maxsize=4096)
def normalise(key: str) -> str:
    """`maxRetries`, `max-retries` and `MAX_RETRIES` are `max_retries`. The result normalises to itself."""
    return "".join(part if _PARTS.fullmatch(part) else _normalise_part(part) for part in _PARTS.split(key))


def _normalise_part(part: str) -> str:
    words = _SEPARATORS.sub("_", _BOUNDARY.sub("_", part)).strip("_")
    return words.translate(_LOWER)
