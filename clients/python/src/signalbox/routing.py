"""Which provider a call goes to, with which key, and what happens when that fails: on the router's terms.

Owns the order of attempts, their pauses and deadlines. Pure: it sends nothing. All of a call reads one snapshot; of the present
state it only asks whether a secret still stands, because one that was revoked meanwhile must not be sent any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from time import monotonic
from typing import Any

from . import specs, wire
from ._attempts import Attempt, AttemptFailure, Completion, CompletionError, ProviderError, asked_wait
from ._backoff import Backoff
from ._decode import SecretField
from ._left_alone import LeftAlone
from ._pause import Wait
from .errors import SecretError, SignalboxError
from .resources import ApiKey, Model, Provider, SecretText
from .snapshot import Snapshot

__all__ = ["Attempt", "AttemptFailure", "Completion", "CompletionError", "ProviderError", "Route"]

#: Where a router or its parts leave it open.
_RETRIES = 2
_INITIAL_BACKOFF = 0.5
_MAX_BACKOFF = 30.0
_RETRY_ON = ("connection", "timeout", "rate_limited", "unavailable")
#: The router of calls that name none.
_DEFAULT = "default"
#: Seconds that a call may take in all where neither the router nor the caller says.
_TOTAL = 600.0


class Route:
    """The attempts of one call."""

    def __init__(
        self,
        snapshot: Snapshot,
        call: wire.Call,
        *,
        present: Callable[[], Snapshot],
        provider: str | None,
        router: str,
        timeout: float | None,
        latencies: Mapping[str, float],
        turns: MutableMapping[str, int],
        left_alone: LeftAlone,
        random: Callable[[], float],
    ) -> None:
        self._snapshot = snapshot
        self._call = call
        self._present_state = present
        self._random = random
        self._left_alone = left_alone
        found = snapshot.router(router)
        if found is None and provider is None and router != _DEFAULT:
            raise CompletionError(f"there is no such router: {router}")
        spec = found.spec if found is not None else specs.RouterSpec()
        self._retries = spec.retries or specs.RetryPolicy()
        self._timeouts = spec.timeouts or specs.RouterTimeouts()
        total = timeout if timeout is not None else _seconds(self._timeouts.total, _TOTAL)
        self.deadline = monotonic() + total
        self.failures: list[AttemptFailure] = []
        #: Keys that were refused or are to be left alone, and of those that are being rotated the value before as well.
        self._refused: set[str] = set()
        #: What is tried next of a key whose present value was refused.
        self._before: tuple[ApiKey, SecretText] | None = None
        candidates = [provider] if provider else [spec.primary, *spec.fallbacks]
        #: Whom the call's own model is meant for.
        self._meant = candidates[0].removeprefix("providers/")
        ordered = self._ordered(
            [name for name in candidates if name], spec.strategy, latencies, turns, router
        )
        # Who has asked an earlier call to be left alone comes after all others: nobody else may answer.
        ordered.sort(key=lambda name: name.removeprefix("providers/") in left_alone)
        #: Who has not been asked yet.
        self._candidates = deque(self._usable(ordered))
        self._present: Provider | None = None
        self._left = 0
        self._backoff = self._pauses()

    def next_attempt(self) -> Attempt:
        """The next attempt. Raises `CompletionError` when there is none."""
        while True:
            if self._present is None or self._left <= 0:
                self._present = self._candidates.popleft() if self._candidates else None
                self._left = 1 + (
                    _RETRIES if self._retries.max_retries is None else self._retries.max_retries
                )
                self._backoff = self._pauses()
            if self._present is None or monotonic() >= self.deadline:
                raise self._over()
            self._left -= 1
            try:
                return self._attempt(self._present)
            except SignalboxError as error:
                self.failures.append(AttemptFailure(self._present.id, "refused", error))
                self._left = 0

    def failed(self, attempt: Attempt, kind: str, error: SignalboxError) -> float:
        """Takes note of a failed attempt, and gives the pause before the next in seconds."""
        self.failures.append(AttemptFailure(attempt.provider.id, kind, error))
        if kind == "authentication" and attempt.key is not None:
            self._refused.add(attempt.key.name)
            if self._goes_back(attempt, attempt.key, error):
                return 0.0
        asked = self._asked_wait(attempt, error)
        # The same provider may have another key that is good.
        other_key = kind == "authentication" and bool(self._keys(attempt.provider))
        if self._left <= 0 or other_key:
            return 0.0
        again = kind in (self._retries.retry_on or _RETRY_ON)
        pause = self._wait(asked).length(self._random()) if again else None
        if pause is None:
            self._left = 0
        return pause or 0.0

    def _asked_wait(self, attempt: Attempt, error: SignalboxError) -> float | None:
        """How long the provider is left alone by its own wish, by later calls as well. Where it has another key, that one is
        taken: it was not asked to wait."""
        asked, key = asked_wait(error), attempt.key
        if asked is None:
            return None
        if key is not None and any(each.name != key.name for each in self._keys(attempt.provider)):
            self._refused.add(key.name)
            return None
        self._left_alone.told(attempt.provider.id, asked)
        return asked

    def _wait(self, asked: float | None) -> Wait:
        """What is waited for before the same provider is asked again."""
        others = asked is not None and any(self._can_be_asked(each) for each in self._candidates)
        left = max(0.0, self.deadline - monotonic())
        return Wait(self._backoff.next_cap(), self._longest_pause(), asked, others, left)

    def _can_be_asked(self, provider: Provider) -> bool:
        """Whether a provider can be asked at once."""
        if provider.id in self._left_alone:
            return False
        try:
            self._attempt(provider)
        except SignalboxError:
            return False
        return True

    def completion(self, attempt: Attempt, answer: wire.Answer) -> Completion:
        """The outcome."""
        unused, failures = attempt.rendered.unused, tuple(self.failures)
        return Completion(
            answer, attempt.provider.id, attempt.model, self._snapshot.revision, unused, failures
        )

    def _over(self) -> SignalboxError:
        if self.failures and all(isinstance(each.error, wire.CallError) for each in self.failures):
            return self.failures[0].error
        late = " in time" if monotonic() >= self.deadline else ""
        return CompletionError(f"no provider has answered{late}", tuple(self.failures))

    def _usable(self, names: list[str]) -> list[Provider]:
        named = [self._snapshot.provider(name.removeprefix("providers/")) for name in names]
        usable = [each for each in named if each is not None and each.enabled]
        if not usable:
            wanted = ", ".join(names) or "an active provider"
            found = self._snapshot.select("kind:provider")
            there = ", ".join(
                sorted(each.id for each in found if isinstance(each, Provider) and each.enabled)
            )
            raise CompletionError(f"{wanted}: not configured, or disabled; there is {there or 'no provider'}")
        return usable

    def _ordered(
        self,
        names: list[str],
        strategy: str,
        latencies: Mapping[str, float],
        turns: MutableMapping[str, int],
        router: str,
    ) -> list[str]:
        """The providers by the router's strategy. Whichever comes first, the others are its fallbacks."""
        if len(names) < 2 or strategy in ("", "ordered"):
            return names
        if strategy == "round_robin":
            turn = turns[router] = (turns.get(router, -1) + 1) % len(names)
            return names[turn:] + names[:turn]
        if strategy == "random":
            first = min(int(self._random() * len(names)), len(names) - 1)
            return [names[first], *names[:first], *names[first + 1 :]]
        if strategy == "lowest_latency":
            # Who has not been asked yet is asked once.
            return sorted(names, key=lambda name: latencies.get(name.removeprefix("providers/"), 0.0))
        return sorted(names, key=self._price) if strategy == "lowest_price" else names

    def _price(self, name: str) -> Decimal:
        """What a model of the provider costs in and out together; unknown prices come last."""
        provider = self._snapshot.provider(name.removeprefix("providers/"))
        if provider is None:
            return Decimal("Infinity")
        model = self._known(provider, self._model(provider))
        prices: Any = None if model is None else model.spec.prices
        try:
            return Decimal("Infinity") if prices is None else Decimal(prices.input) + Decimal(prices.output)
        except InvalidOperation:
            return Decimal("Infinity")

    def _model(self, provider: Provider) -> str:
        """The model that a provider is asked for: the call's own where it is meant for this one or is known to be had here,
        else the provider's default. One that has no default is asked for the call's."""
        wanted, default = self._call.model, provider.spec.default_model
        if not wanted or not default or provider.id == self._meant:
            return wanted or default
        has = wanted in provider.spec.models or self._known(provider, wanted) is not None
        return wanted if has else default

    def _known(self, provider: Provider, model: str) -> Model | None:
        """The catalogue's entry, by the provider's id or by its type."""
        return self._snapshot.model(provider.id, model) or self._snapshot.model(provider.spec.type, model)

    def _attempt(self, provider: Provider) -> Attempt:
        model = self._model(provider)
        rendered = wire.render(provider.spec, replace(self._call, model=model))
        key, secret = self._choose(provider) if rendered.key_header is not None else (None, None)
        # No variable holds a value in the open: what reports errors would show it.
        headers = {
            name: value.replace("{api_key}", secret.expose())
            if name == rendered.key_header and secret is not None
            else self._header(provider, name, value)
            for name, value in rendered.headers.items()
        }
        now = monotonic()
        limits = [self.deadline]
        if self._timeouts.request is not None:
            limits.append(now + self._timeouts.request.total_seconds())
        connect, first = (
            _seconds(each, None) for each in (self._timeouts.connect, self._timeouts.first_token)
        )
        return Attempt(provider, key, secret, model, rendered, headers, min(limits), connect, first)

    def _header(self, provider: Provider, name: str, rendered: str) -> str:
        """What goes into a header. Raises `SecretError`."""
        if name not in provider.spec.headers:
            return rendered
        path = f"provider.headers.{name}"
        sealed = provider._content().secrets.get(path)
        if sealed is not None and not self._stands(provider, sealed):
            raise SecretError(provider.name, path, "revoked")
        value = provider.header(name)
        return rendered if value is None else value.expose()

    def _goes_back(self, attempt: Attempt, key: ApiKey, error: SignalboxError) -> bool:
        """Whether the next attempt is made with the value before of a key that is being rotated: the provider may not know the
        new one yet. It takes none of the retries."""
        is_unknown = isinstance(error, ProviderError) and (
            error.status == 401 or error.failure.reason == "bad_key"
        )
        try:
            before = key.previous_secret() if is_unknown else None
        except SecretError:
            before = None
        if before is None or before == attempt.secret:
            return False
        self._before = (key, before)
        self._left += 1
        return True

    def _choose(self, provider: Provider) -> tuple[ApiKey, SecretText]:
        """One of the keys that may be used, by weight, and its value. Raises `SecretError` where none can be read."""
        before, self._before = self._before, None
        if before is not None and self._stands(before[0], SecretField("present", before[1].expose())):
            return before
        key = self._weighed(provider)
        return key, key.secret()

    def _weighed(self, provider: Provider) -> ApiKey:
        keys = self._keys(provider)
        if not keys:
            was_there = any(
                key.name not in self._refused for key in self._snapshot.active_api_keys(provider.id)
            )
            raise SecretError(provider.name, "apiKeys", "revoked" if was_there else "absent")
        place = self._random() * sum(key.weight for key in keys)
        for key in keys:
            place -= key.weight
            if place < 0:
                return key
        return keys[-1]

    def _keys(self, provider: Provider) -> list[ApiKey]:
        return [
            key
            for key in self._snapshot.active_api_keys(provider.id)
            if key.name not in self._refused
            and self._stands(key, key._content().secrets.get("api_key.secret"))
        ]

    def _stands(self, holder: ApiKey | Provider, secret: SecretField | None) -> bool:
        """Whether the present state still has a secret: its holder was neither revoked nor switched off nor deleted since, and
        has not got another value. Where none is shown, that is for whoever reads it to say."""
        now = self._present_state()._resources.get(holder.name)
        if now is None or now.revoked or (isinstance(now, ApiKey) and not now.active):
            return False
        return secret is None or secret in now._content().secrets.values()

    def _pauses(self) -> Backoff:
        ceiling, factor = self._longest_pause(), self._retries.backoff_multiplier or 2.0
        return Backoff(self._first_pause(), ceiling, self._random, factor)

    def _first_pause(self) -> float:
        first: float = _seconds(self._retries.initial_backoff, _INITIAL_BACKOFF)
        return first

    def _longest_pause(self) -> float:
        longest: float = _seconds(self._retries.max_backoff, max(_MAX_BACKOFF, self._first_pause()))
        return longest


def _seconds(duration: Any, otherwise: Any) -> Any:
    return otherwise if duration is None else duration.total_seconds()
