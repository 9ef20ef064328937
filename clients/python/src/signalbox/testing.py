"""A client without a server, for the tests of applications.

    from signalbox.testing import FakeClient

    fake = FakeClient({"providers/groq": {"provider": {"type": "PROVIDER_TYPE_GROQ"}}})
    fake.put("settings/max_retries", {"setting": {"intValue": 3}})
    assert fake.setting_int("max_retries") == 3

Resources are written as the API's JSON. Owns nothing of its own: snapshots, getters, callbacks and subscriptions are the real
ones. A provider with a type is given what the service fills in by it, so that an executor can call it; nothing else is filled
in, and of rules only the form is checked. `AsyncFakeClient` is the same for asyncio.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format

from . import _proto
from ._clock import monotonic
from ._state import State
from .aio import until
from .client import Reader
from .environment import fill_in
from .errors import RevisionNotReachedError, SignalboxError
from .events import ChangeEvent, ChangeSet, between
from .resources import view_of
from .settings import Default, Overrides
from .snapshot import Draft
from .staleness import Staleness
from .subscription import AsyncSubscription


class FakeError(SignalboxError, ValueError):
    """What a test has put is no resource."""


class _Fake(Reader):
    """What is filled by the test."""

    def __init__(
        self,
        resources: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        defaults: Mapping[str, Default] | None = None,
        environment: Mapping[str, str] | None = None,
        staleness: Staleness | None = None,
    ) -> None:
        super().__init__(
            State(Overrides.of(environment or {}, defaults or {}), staleness or Staleness(), 1_024)
        )
        self.set_age(0.0)
        for name, resource in (resources or {}).items():
            self.put(name, resource)

    def put(self, name: str, resource: Mapping[str, Any]) -> None:
        """Creates or replaces a resource, in a revision of its own. Raises `FakeError` for what is none."""
        message = _message(name, resource)
        draft = self._draft()
        message.update_revision = draft.revision
        after = view_of(message)
        self._publish(draft, between(name, draft.revision, draft.upsert(after), after))

    def delete(self, name: str) -> None:
        """Deletes a resource, in a revision of its own."""
        draft = self._draft()
        self._publish(draft, between(name, draft.revision, draft.remove(name), None))

    def revoke(self, *names: str) -> None:
        """Makes the secrets of these resources refused, until they are put again."""
        served = self._state.served
        snapshot = Draft(served).publish(
            served, {**served._revoked, **dict.fromkeys(names, served.revision + 1)}
        )
        events = tuple(
            ChangeEvent("revoked", name, served.revision + 1, served.get(name), snapshot.get(name), "revoked")
            for name in names
            if snapshot.get(name) is not None
        )
        self._state.publish(snapshot, ChangeSet(events, snapshot) if events else None)

    def set_age(self, seconds: float) -> None:
        """Makes the cache one that was confirmed so long ago."""
        moment = monotonic() - seconds
        self._state.record(loaded=True, source="stream", last_message=moment, confirmed_at=moment)

    def _draft(self) -> Draft:
        draft = Draft(self._state.served)
        draft.revision += 1
        return draft

    def _publish(self, draft: Draft, event: ChangeEvent | None) -> None:
        served = self._state.served
        revoked = {name: at for name, at in served._revoked.items() if event is None or name != event.name}
        snapshot = draft.publish(served, revoked)
        self._state.publish(snapshot, None if event is None else ChangeSet((event,), snapshot))


class FakeClient(_Fake):
    """Has what `Client` has, and is filled by the test."""

    def wait_ready(self, timeout: float = 10.0) -> None:
        """Is ready at once."""

    def wait_revision(self, revision: int, timeout: float = 10.0) -> None:
        """Waits until the test has put so many revisions. Raises `RevisionNotReachedError` when the time is over."""
        if not self._state.wait(lambda: self._state.served.revision >= revision, monotonic() + timeout):
            raise RevisionNotReachedError(revision, self._state.served.revision)

    def clear_cache(self, timeout: float = 10.0) -> None:
        """There is no cache on disk: what was put stays."""

    def close(self) -> None:
        """Ends all subscriptions."""
        self._state.close()
        self._dispatcher.close(2.0)

    def __enter__(self) -> FakeClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncFakeClient(_Fake):
    """Has what `aio.AsyncClient` has, and is filled by the test."""

    async def wait_ready(self, timeout: float = 10.0) -> None:
        """Is ready at once."""

    async def wait_revision(self, revision: int, timeout: float = 10.0) -> None:
        """See `FakeClient.wait_revision`."""
        if not await until(self._state, lambda: self._state.served.revision >= revision, timeout):
            raise RevisionNotReachedError(revision, self._state.served.revision)

    async def clear_cache(self, timeout: float = 10.0) -> None:
        """There is no cache on disk: what was put stays."""

    def changes(self) -> AsyncSubscription:
        """See `aio.AsyncClient.changes`."""
        return AsyncSubscription(self._subscribe)

    async def close(self) -> None:
        """Ends all subscriptions."""
        self._state.close()
        await asyncio.to_thread(self._dispatcher.close, 2.0)

    async def __aenter__(self) -> AsyncFakeClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _message(name: Any, resource: Any) -> Any:
    if not isinstance(name, str) or len(name.split("/")) < 2 or not all(name.split("/")):
        raise FakeError(f"{name!r}: not a name, which is like providers/groq")
    if not isinstance(resource, Mapping):
        raise FakeError(f"{name}: must be the API's JSON as a dict, not {type(resource).__name__}")
    try:
        message = json_format.ParseDict({**resource, "name": name}, _proto.Resource())
    except (json_format.ParseError, TypeError, ValueError, AttributeError) as error:
        raise FakeError(f"{name}: {error}") from None
    arm = message.WhichOneof("spec")
    if arm is None:
        raise FakeError(f"{name}: has no spec, as in {{'setting': {{'intValue': 3}}}}")
    if arm == "provider":
        fill_in(message.provider)
    return message
