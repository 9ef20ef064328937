"""How long a provider asks to be left alone: the header `Retry-After`, or `google.rpc.RetryInfo` in the body.

Owns the reading of it, which `tests/vectors/routing.json` of the repository holds in every language. Must not know what is made
of it.
"""

from __future__ import annotations

import re
from datetime import datetime
from email.utils import parsedate_to_datetime

from .paths import Json, find

#: As many seconds count at most: nobody waits for longer.
_MOST = 86_400.0
_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")
#: The only form of a date that is sent today.
_DATE = re.compile(r"[A-Za-z]{3}, [0-9]{2} [A-Za-z]{3} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT")
#: Where details of an error stand; some send it in a list.
_DETAILS = ("error.details[*]", "[0].error.details[*]")
_RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"


def retry_after(header: str, now: datetime) -> float | None:
    """What the header `Retry-After` says, in seconds: a number, or a date. A date that has passed is no time at all. `None` where
    it is neither."""
    header = header.strip()
    seconds = _seconds(header)
    if seconds is not None or not _DATE.fullmatch(header):
        return seconds
    try:
        return min(_MOST, max(0.0, (parsedate_to_datetime(header) - now).total_seconds()))
    except ValueError:
        return None


def retry_info(body: Json) -> float | None:
    """What the body of an error says, in seconds."""
    details = [each for path in _DETAILS for each in find(path, body) if isinstance(each, dict)]
    delay = next((each.get("retryDelay") for each in details if each.get("@type") == _RETRY_INFO), None)
    return _seconds(delay[:-1]) if isinstance(delay, str) and delay.endswith("s") else None


def _seconds(text: str) -> float | None:
    """A number of seconds in digits, with or without a fraction."""
    return min(_MOST, float(text)) if _SECONDS.fullmatch(text) else None
