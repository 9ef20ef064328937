"""The worker's own say in what it runs.

Owns the callback that is shown each new state, and the form of its refusal. Must not know what is served instead.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ._text import one_line
from .snapshot import Snapshot

_log = logging.getLogger("signalbox")

#: Characters of a reason that the service takes.
_REASON_CHARS = 512


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
        return one_line(reason, _REASON_CHARS) or "no reason is given"
