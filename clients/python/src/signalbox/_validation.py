"""The worker's own say in what it runs.

Owns the callback that is shown each new state, and the form of its refusal. Must not know what is served instead.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

from .snapshot import Snapshot

_log = logging.getLogger("signalbox")

#: Characters of a reason that the service takes.
_REASON_CHARS = 512
#: What it takes none of, because it misleads who reads it: controls, bidirectional ones too, line separators, and halves of
#: characters.
_REFUSED = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


class Validation:
    """Asks the option `validate`."""

    def __init__(self, callback: Callable[[Snapshot], Any] | None) -> None:
        self._callback = callback

    def __call__(self, offered: Snapshot) -> str | None:
        """Why a new state is not to be served, in a line that the service takes; `None` where it is accepted. Whoever raises
        has not accepted it."""
        if self._callback is None:
            return None
        try:
            reason = self._callback(offered)
        except BaseException as error:
            # Its text may hold anything, and goes to others.
            _log.exception("the validation failed")
            return f"the validation failed: {type(error).__name__}"
        if reason is None:
            return None
        if not isinstance(reason, str):
            _log.error("validate gives %s; None accepts, a text says why not", type(reason).__name__)
            return f"the validation failed: it gives neither None nor a text, but {type(reason).__name__}"
        return _REFUSED.sub(" ", reason).strip()[:_REASON_CHARS] or "no reason is given"
