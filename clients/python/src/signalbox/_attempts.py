"""One request to one provider, and what becomes of it.

Owns the attempt, the outcome of a call, and the words for why an attempt failed. Pure: it sends nothing, and knows no order of
attempts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from . import specs, wire
from .errors import SignalboxError
from .resources import ApiKey, Provider, SecretText

#: The provider's own statuses for being overloaded or away; others of the 500s are errors.
_AWAY = (502, 503, 504, 529)


class CompletionError(SignalboxError):
    """No provider has answered. `failures` tells what became of each attempt."""

    def __init__(self, message: str, failures: tuple[AttemptFailure, ...] = ()) -> None:
        told = "; ".join(str(failure) for failure in failures)
        super().__init__(f"{message}: {told}" if told else message)
        self.failures = failures

    @property
    def retry_after(self) -> float | None:
        """In how many seconds one of the providers may be asked again, where they have said so: the fewest that any asks for."""
        asked = (asked_wait(failure.error) for failure in self.failures)
        return min((seconds for seconds in asked if seconds is not None), default=None)


@dataclass(frozen=True)
class AttemptFailure:
    """What became of one attempt."""

    provider: str
    kind: str
    """A `CallFailure` of the router as a word: `connection`, `timeout`, `rate_limited`, `unavailable`, `server_error`,
    `authentication`, `bad_answer`; or `refused`, where the call itself is what is wrong."""

    error: SignalboxError

    def __str__(self) -> str:
        return f"{self.provider}: {self.kind} ({self.error})"


class ConnectionFailedError(SignalboxError):
    """No connection to a provider came about, or it broke."""


class TimedOutError(SignalboxError):
    """A provider has not answered in time."""


class ProviderError(SignalboxError):
    """A provider has refused a call, in its own words without parts of the key."""

    def __init__(self, status: int, failure: wire.Failure) -> None:
        asked = failure.retry_after
        wait = "" if asked is None else f" (asks to be left alone for {asked:g} s)"
        super().__init__(
            f"HTTP {status}, {failure.reason}: {failure.message or failure.code or 'no message'}{wait}"
        )
        self.status = status
        self.failure = failure


@dataclass(frozen=True)
class Completion:
    """An answer, and where it comes from."""

    answer: wire.Answer
    provider: str
    """Id of the provider that has answered."""

    model: str
    """The model that has answered: where another provider stepped in, maybe not the one that the call names."""

    revision: int
    """Revision of the configuration that the call ran on."""

    unused: tuple[str, ...]
    """Parameters that the provider has no place for."""

    failures: tuple[AttemptFailure, ...]
    """Attempts that came before."""

    @property
    def text(self) -> str:
        """What the model says."""
        return self.answer.text

    @property
    def usage(self) -> Mapping[str, int]:
        """Tokens by what they were used for."""
        return self.answer.usage


@dataclass(frozen=True)
class Head:
    """How an answer begins."""

    status: int
    retry_after: str | None
    """The header of that name."""

    @property
    def is_good(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True)
class Attempt:
    """One request to one provider, with its secrets in place."""

    provider: Provider
    key: ApiKey | None
    #: The value of the key that is sent: while a rotation lasts it may be the one before.
    secret: SecretText | None
    model: str
    rendered: wire.Rendered
    headers: Mapping[str, str]
    deadline: float
    connect: float | None
    first_token: float | None

    @property
    def content(self) -> bytes:
        """The body. Raises `CallError` for a text that no body can hold."""
        try:
            return json.dumps(self.rendered.body, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            problem = wire.Problem("messages", "must be texts of whole characters; here is half of one")
            raise wire.CallError([problem]) from None

    @property
    def extractor(self) -> specs.ResponseExtractor:
        """How the answer is read."""
        return self.provider.spec.response_extractor or specs.ResponseExtractor()

    @property
    def exposed(self) -> str | None:
        """The value of the key that is sent, to be cut out of what the provider says."""
        return self.secret.expose() if self.secret is not None else None

    @property
    def has_secrets(self) -> bool:
        """Whether a key or a secret header is sent."""
        return self.secret is not None or bool(self._sealed())

    def refused(self, head: Head, body: bytes) -> SignalboxError:
        """The error of an answer that is none."""
        failure = wire.read_failure(self.extractor, head.status, body, self.exposed)
        asked = None
        if head.retry_after is not None:
            asked = wire.retry_after(head.retry_after, datetime.now(timezone.utc))
        if asked is not None:
            failure = replace(failure, retry_after=asked)
        return ProviderError(head.status, self._cleared(failure))

    def broken(self, error: SignalboxError) -> SignalboxError:
        """The error of an answer that broke off. Secret headers are cut out of the provider's words here as well."""
        if isinstance(error, wire.StreamFailedError):
            return wire.StreamFailedError(self._cleared(error.failure))
        return error

    def _cleared(self, failure: wire.Failure) -> wire.Failure:
        for name in self._sealed():
            message, code = (
                wire.without_keys(text, self.headers[name]) for text in (failure.message, failure.code)
            )
            failure = replace(failure, message=message, code=code)
        return failure

    def _sealed(self) -> list[str]:
        """The secret headers."""
        sealed = self.provider._content().secrets
        return [name for name in self.headers if f"provider.headers.{name}" in sealed]

    def __repr__(self) -> str:
        return f"<Attempt at {self.provider.id}>"


def asked_wait(error: SignalboxError) -> float | None:
    """For how many seconds the provider asks to be left alone, where it says so."""
    if isinstance(error, ProviderError | wire.StreamFailedError):
        return error.failure.retry_after
    return None


def kind_of(error: SignalboxError) -> str:
    """Why an attempt failed, in the router's words."""
    if isinstance(error, ProviderError | wire.StreamFailedError):
        reason = error.failure.reason
        if reason in ("bad_key", "permission_denied"):
            return "authentication"
        if reason == "unavailable":
            is_away = isinstance(error, wire.StreamFailedError) or error.status in _AWAY
            return "unavailable" if is_away else "server_error"
        return reason if reason in ("rate_limited", "timeout") else "refused"
    if isinstance(error, TimedOutError):
        return "timeout"
    if isinstance(error, wire.MalformedError | wire.TooLargeError):
        return "bad_answer"
    return "connection" if isinstance(error, wire.CutOffError | ConnectionFailedError) else "refused"
