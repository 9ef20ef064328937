"""What may still be read of a cache that has not been confirmed for a while.

Owns the policy, by kind. Must not know clocks, streams or snapshots.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .errors import OptionsError, StaleError
from .resources import VIEWS, Resource

Shown = TypeVar("Shown", bound=Resource[Any])


@dataclass(frozen=True)
class Aging:
    """What is refused at some age."""

    kinds: frozenset[str]
    secrets: bool

    def show(self, resource: Shown) -> Shown:
        """The resource as it may be read. Raises `StaleError` where it may not."""
        if resource.kind in self.kinds:
            raise StaleError(
                f"{resource.name}: the cache is older than the policy allows for the kind {resource.kind}"
            )
        return resource.refusing("stale") if self.secrets and not resource.revoked else resource


@dataclass(frozen=True)
class Staleness:
    """How old the last word from the store may be, in seconds. `None` is without limit."""

    bound: float = 30.0
    """Older than this, the client calls itself stale, and is not ready. At half of it another server is looked for, which is
    followed where it has a younger word."""

    secrets: float | None = 3_600.0
    """Older than this, no secret is given out any more, of whatever kind: a key that was revoked meanwhile would be used
    on and on. `None` trusts them for ever."""

    kinds: Mapping[str, float | None] = field(default_factory=dict)
    """Older than this, resources of the kind can't be read at all. Kinds that are not here are served on: a prompt of
    yesterday is better than none."""

    def __post_init__(self) -> None:
        unknown = sorted(kind for kind in self.kinds if kind not in VIEWS)
        if unknown:
            raise OptionsError(f"staleness: kind {unknown[0]!r} is none of {', '.join(VIEWS)}")
        limits = (self.bound, self.secrets, *self.kinds.values())
        if any(limit is not None and not limit > 0 for limit in limits):
            raise OptionsError("staleness: each limit is more than 0 seconds")

    @property
    def first_limit(self) -> float:
        """The age up to which nothing is refused, in seconds."""
        limits = (self.secrets, *self.kinds.values())
        return min((limit for limit in limits if limit is not None), default=float("inf"))

    def aging(self, age: float) -> Aging | None:
        """What is refused at an age; `None` where nothing is."""
        kinds = frozenset(kind for kind, limit in self.kinds.items() if limit is not None and age > limit)
        secrets = self.secrets is not None and age > self.secrets
        return Aging(kinds, secrets) if kinds or secrets else None
