"""How a stream is opened: one channel, one call, the token as it is now.

Owns channels and tokens. Must not know what the messages mean.
"""

from __future__ import annotations

import base64
import json
import pathlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import grpc
import grpc.experimental
from google.protobuf.message import DecodeError

from . import _files, _proto, _tls
from .errors import EndedError, RpcError, TokenError

#: The server refuses longer ones.
_MAX_TOKEN_BYTES = 8 * 1024
#: A token, and white space around it.
_MAX_TOKEN_FILE_BYTES = 64 * 1024
#: The server sends at most 1 MiB by default, and at most 16 MiB however it is set.
_MAX_MESSAGE_BYTES = 17 * 1024 * 1024
_WATCH = "/signalbox.v1.ConfigService/WatchConfig"
_REPORT = "/signalbox.v1.FleetService/ReportApplied"
_LIST = "/signalbox.v1.ConfigService/ListResources"
#: Seconds that a report may take.
_REPORT_TIMEOUT = 5.0
#: Seconds that a server may take to be reached and to say how fresh it is.
_ASK_TIMEOUT = 5.0

_CHANNEL_OPTIONS = (
    # A cut that no packet announces is found within the sum of both.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # How long a connection may take to come about.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    # A channel of its own connection: a shared one would bring along the delays of others.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    # Who iterates waits in gRPC itself. Otherwise a thread of gRPC's own does, and it ends some time after its call: a fork
    # in between would leave a child whose gRPC hangs.
    (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1),
)


#: Issuer and subject of a token.
Subject = tuple[str, str]


class TokenSource:
    """Where the bearer token comes from: fixed, a file, or a callback. Asked anew at each connection."""

    def __init__(
        self,
        token: str | None = None,
        file: pathlib.Path | None = None,
        callback: Callable[[], str] | None = None,
    ) -> None:
        self._token = token
        self._file = file
        self._callback = callback

    def subject(self) -> Subject:
        """Whom the token speaks for that there is now. Raises `TokenError`."""
        return _subject(self.read())

    def read(self) -> str | None:
        """The token; `None` where there is none. Raises `TokenError`."""
        if self._token is None and self._file is None and self._callback is None:
            return None
        try:
            token = self._read().strip()
        except Exception as error:
            where = f"{self._file}: " if self._file is not None else ""
            why = error.strerror or error if isinstance(error, OSError) else error
            raise TokenError(f"can't read the token: {where}{why}") from error
        if not token or len(token) > _MAX_TOKEN_BYTES:
            raise TokenError("can't use the token: it is " + ("longer than 8 KiB" if token else "empty"))
        if not token.isascii() or not token.isprintable():
            raise TokenError("can't use the token: it holds characters that a header can't")
        return token

    def _read(self) -> str:
        if self._token is not None:
            return self._token
        if self._file is not None:
            return _files.read(self._file, _MAX_TOKEN_FILE_BYTES).decode()
        assert self._callback is not None
        return self._callback()

    def __repr__(self) -> str:
        kind = (
            "callback"
            if self._callback
            else f"file {self._file}"
            if self._file
            else "fixed"
            if self._token
            else "none"
        )
        return f"<TokenSource {kind}>"


def _subject(token: str | None) -> Subject:
    """What a JSON web token says of whom it speaks for; both empty where it is none. Nobody has verified it here."""
    try:
        if token is None:
            return "", ""
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        issuer, subject = (claims.get(name, "") for name in ("iss", "sub"))
    except (IndexError, ValueError, AttributeError):
        return "", ""
    return issuer if isinstance(issuer, str) else "", subject if isinstance(subject, str) else ""


class Stream:
    """The messages of one call, and the reports beside it. `cancel` and `report` may come from another thread."""

    def __init__(self, channel: Any, call: Any, report: Callable[[Any], Any], subject: Subject) -> None:
        self.subject = subject
        """Whom the token speaks for that it was opened with."""
        self._channel = channel
        self._call = call
        self._report = report

    def __iter__(self) -> Iterator[Any]:
        """The messages. Raises `RpcError`, or `EndedError` where the server gives no reason."""
        try:
            for packed in self._call:
                yield _proto.WatchConfigResponse.FromString(packed)
        except grpc.RpcError as error:
            raise RpcError.of(error) from None
        except DecodeError:
            raise RpcError("INTERNAL", "the server has sent what is no message") from None
        raise EndedError("the server ended the stream")

    def report(self, request: Any) -> Any:
        """Reports over the same connection, and returns the answer. Raises `RpcError`, or `EndedError` where the connection was
        closed meanwhile."""
        try:
            return self._report(request)
        except grpc.RpcError as error:
            raise RpcError.of(error) from None
        except ValueError:
            raise EndedError("the connection is closed") from None

    def cancel(self) -> None:
        self._call.cancel()

    def close(self) -> None:
        """Ends the call and its connection. For whoever iterates."""
        self._call.cancel()
        _drain(self._call)
        self._channel.close()

    def abandon(self) -> None:
        """Ends the call, and leaves its connection to gRPC: a fork that meets gRPC while it takes one down may never return."""
        self._call.cancel()
        self._channel.close()


def _drain(call: Any) -> None:
    """Takes what is still to be told of a call that has been cancelled. The call lives until then, and its connection with it,
    whoever closes the channel; with calls that no thread of gRPC's looks after that is nobody's business but ours, and gRPC has
    no word for it."""
    state, take = getattr(call, "_state", None), getattr(call, "_consume_next_event", None)
    while take is not None and getattr(state, "due", None):
        take()


class Connection:
    """One channel to one server, with the token as it was."""

    def __init__(self, endpoint: int, channel: Any, token: str | None) -> None:
        self.endpoint = endpoint
        """The place of the server among the endpoints."""
        self._channel = channel
        self._token = token

    def watch(self, request: Any) -> Stream:
        """Opens a stream. It connects when its first message is asked for, and the connection ends with it."""
        watch = self._channel.unary_stream(
            _WATCH,
            request_serializer=_proto.WatchConfigRequest.SerializeToString,
            # The stream reads them itself: a call that gRPC can't read is over for it, and lives on.
            response_deserializer=None,
        )
        reports = self._unary(
            _REPORT, _proto.ReportAppliedRequest, _proto.ReportAppliedResponse, _REPORT_TIMEOUT
        )
        return Stream(self._channel, watch(request, metadata=self._metadata), reports, _subject(self._token))

    def confirmed_age(self) -> float:
        """How long ago the server has heard of its store, in seconds. Raises `RpcError`."""
        # The cheapest question that is answered with it, to whoever may watch.
        ask = self._unary(_LIST, _proto.ListResourcesRequest, _proto.ListResourcesResponse, _ASK_TIMEOUT)
        try:
            answer = ask(_proto.ListResourcesRequest(page_size=1))
        except grpc.RpcError as error:
            raise RpcError.of(error) from None
        except ValueError:
            raise EndedError("the connection is closed") from None
        return float("inf") if answer.stale else _proto.seconds(answer.confirmed_age)

    def close(self) -> None:
        """Ends it, and what is asked over it. May come from another thread."""
        self._channel.close()

    @property
    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self._token}"),) if self._token is not None else ()

    def _unary(self, path: str, request: Any, response: Any, timeout: float) -> Callable[[Any], Any]:
        call = self._channel.unary_unary(
            path, request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )
        return partial(call, metadata=self._metadata, timeout=timeout)


class Dialer:
    """Opens streams to the endpoints in turn."""

    def __init__(
        self,
        endpoints: tuple[str, ...],
        token: TokenSource,
        ca_file: pathlib.Path | None,
        cert_file: pathlib.Path | None,
        key_file: pathlib.Path | None,
    ) -> None:
        self._endpoints = endpoints
        self._token = token
        self._ca_file = ca_file
        self._cert_file = cert_file
        self._key_file = key_file
        self._next = 0
        #: Over which the next stream is opened, where one is there already.
        self._found: Connection | None = None

    @property
    def endpoint(self) -> str:
        return self._endpoints[self._next]

    def rotate(self) -> None:
        """The next stream goes to the next endpoint, or to where a better one was found."""
        if self._found is None:
            self._next = (self._next + 1) % len(self._endpoints)

    def connect(self, further: int = 0) -> Connection:
        """A connection to the endpoint that is so many further on. Raises `SignalboxError`."""
        token = self._token.read()
        endpoint = (self._next + further) % len(self._endpoints)
        return Connection(endpoint, self._channel(self._endpoints[endpoint]), token)

    def go_to(self, found: Connection) -> None:
        """The next stream is opened over this connection."""
        self.close()
        self._next, self._found = found.endpoint, found

    def open(self, request: Any) -> Stream:
        """Opens a stream. It connects when its first message is asked for. Raises `SignalboxError`."""
        connection, self._found = self._found or self.connect(), None
        return connection.watch(request)

    def close(self) -> None:
        """Ends what no stream is opened over any more."""
        found, self._found = self._found, None
        if found is not None:
            found.close()

    def _channel(self, endpoint: str) -> Any:
        url = urlsplit(endpoint)
        target = (
            url.netloc if url.port is not None else f"{url.netloc}:{443 if url.scheme == 'https' else 80}"
        )
        if url.scheme == "http":
            return grpc.insecure_channel(target, options=_CHANNEL_OPTIONS)
        credentials = _tls.credentials(self._ca_file, self._cert_file, self._key_file)
        return grpc.secure_channel(target, credentials, options=_CHANNEL_OPTIONS)
