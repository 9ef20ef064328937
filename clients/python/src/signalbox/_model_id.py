"""The one spelling of a model's id in a name, as the server has it.

A model's id may hold `/`, which a segment of a name can't: `+` stands for it, and `-` for what else no name holds.
"""

from __future__ import annotations

import re
from functools import lru_cache

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._:@+-]")
_NOT_AT_THE_START = re.compile(r"^[^A-Za-z0-9]+")
#: Characters of a segment.
_LONGEST = 128


@lru_cache(maxsize=4096)
def segment_of(model_id: str) -> str:
    """The segment of a name for a model id."""
    return _NOT_AT_THE_START.sub("", _NOT_IN_NAMES.sub("-", model_id.replace("/", "+")))[:_LONGEST]


def model_id_of(segment: str) -> str:
    """The model id that a segment stands for. Where that is not the id that it was made of, the spec has it."""
    return segment.replace("+", "/")
