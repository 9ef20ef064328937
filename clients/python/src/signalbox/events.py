"""What changed: events, the sets they come in, and the difference of two snapshots.

Owns the shape of a notification. Must not know how it is delivered, or streams.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .resources import Resource
from .selectors import Selector
from .snapshot import Snapshot


@dataclass(frozen=True)
class ChangeEvent:
    """One resource that changed."""

    kind: str
    """`created` (or come into view), `updated`, `deleted` (or left the view), or `revoked`: its secrets must not be used any
    more, and the change that replaces them is still to come."""

    name: str
    revision: int
    """Revision of the cache with this event. For `revoked`, the revision that revokes."""

    before: Resource[Any] | None
    after: Resource[Any] | None
    action: str = ""
    """The audit action, for example `rotated`; empty when the event comes from a comparison of snapshots."""

    actor: str = ""
    """Who made the change; empty when the event comes from a comparison of snapshots."""

    traceparent: str = ""
    """The span that told of the change, as W3C `traceparent`, where the servers make traces: what is done with the change is
    its child. Callbacks run in such a span with the extra `otel`."""

    tracestate: str = ""
    """What tracing systems say of that trace to each other, as W3C `tracestate`; mostly nothing."""

    def matches(self, selector: Selector) -> bool:
        """Whether a selector picks the resource as it was or as it is."""
        return any(each is not None and selector.matches(each) for each in (self.before, self.after))


@dataclass(frozen=True)
class ChangeSet:
    """Everything that one step of the cache changed: one revision, one new snapshot, or one revocation."""

    events: tuple[ChangeEvent, ...]
    """Never empty, but where something was missed and undone meanwhile."""

    snapshot: Snapshot
    """The cache with these events."""

    missed: int = 0
    """Change sets that a slow reader did not get; the events are then the difference to what it has seen last."""


def between(
    name: str,
    revision: int,
    before: Resource[Any] | None,
    after: Resource[Any] | None,
    action: str = "",
    actor: str = "",
    traceparent: str = "",
    tracestate: str = "",
) -> ChangeEvent | None:
    """The event that leads from one resource to another; `None` when there is nothing to tell."""
    before = before if before is not None and before.kind else None
    after = after if after is not None and after.kind else None
    if before is None and after is None:
        return None
    kind = "deleted" if after is None else "created" if before is None else "updated"
    return ChangeEvent(kind, name, revision, before, after, action, actor, traceparent, tracestate)


def difference(before: Snapshot, after: Snapshot) -> tuple[ChangeEvent, ...]:
    """The events that lead from one snapshot to another: by name in bytewise order, and then the new revocations.

    Costs a walk over both, and nothing where they share their map.
    """
    old, new = before._resources, after._resources
    events = []
    if old is not new:
        names = {name for name, resource in new.items() if old.get(name) is not resource} | (
            old.keys() - new.keys()
        )
        for name in sorted(names):
            was, now = old.get(name), new.get(name)
            if was is None or now is None or was._packed != now._packed:
                events.append(between(name, after.revision, was, now))
    for name in sorted(after._revoked.keys() - before._revoked.keys()):
        resource = new.get(name)
        if resource is not None and resource.kind:
            revision = after._revoked[name]
            events.append(ChangeEvent("revoked", name, revision, old.get(name), resource, "revoked"))
    return tuple(event for event in events if event is not None)
