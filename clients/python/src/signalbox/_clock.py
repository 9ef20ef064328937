"""The clock by which ages are told: one that never goes back, and that counts the time for which the machine was suspended where
the platform has such a one. A cache that slept for an hour is an hour older.

Moments of it are compared with one another only.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

#: The present moment, in seconds.
monotonic: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
)
