"""The last known good state on disk, encrypted and authenticated.

Owns the file: its format, its key, who may have access, what is refused. Must not know streams or threads.

The file is a line of magic, a salt, a nonce, and the state under AES-256-GCM. The key is derived (HKDF-SHA256) from the
secret, the salt and what the cache is of: selectors, secrets or none, and whom the token speaks for. Its servers stand in the
state itself, because their list may change: one in common makes it the same service. So neither a file that somebody has
changed nor one of another service, view, key or token subject is opened. The format is that of the client
in Rust, which describes it to the letter (`src/client/cache/format.rs` and `identity.rs`); `tests/vectors/cache.json` holds both
to it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import re
import stat
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ._files import open_file
from ._replica import Cursor
from ._transport import Subject
from .errors import CacheError, CredentialFileError, OptionsError, TokenError
from .resources import VIEWS, Resource
from .settings import Overrides
from .snapshot import Draft, Snapshot

_MAGIC = b"signalbox cache 3\n"
_SALT_BYTES = 16
_NONCE_BYTES = 12
_MAX_BYTES = 1 << 30
_MAX_KEY_BYTES = 64 << 10
#: Clocks of two boots may differ by so much.
_SKEW = 300.0
#: Within one life of the store a lower revision can't be confirmed so much later than a higher one: heartbeats are more frequent.
_CONFIRMED_LATER = 60.0
#: A temporary file that is older (in seconds) is written by nobody any more.
_LEFT_BEHIND = 60.0
#: Bytes of a fingerprint: of the view and the token's subject, and of each server.
_FINGERPRINT = 32
#: Number of the kind, length of the name, update revision, length of the resource.
_FRAME = struct.Struct("<BHQI")
_HEADER = struct.Struct("<I")


@dataclass(frozen=True)
class Saved:
    """A state as it was kept."""

    snapshot: Snapshot
    cursor: Cursor
    confirmed: float
    """When the store confirmed it, by the machine's clock."""
    subject: Subject = ("", "")
    """Whom the token speaks for that it has come with."""


class DiskCache:
    """One file."""

    def __init__(
        self,
        path: pathlib.Path,
        secret: bytes,
        identity: Callable[[Subject], bytes],
        max_age: float,
        client: str = "",
        subject: Callable[[], Subject] = lambda: ("", ""),
    ) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers import aead
        except ImportError:
            raise OptionsError(
                "cache_file: needs the extra `cache` of signalbox-client, which brings cryptography"
            ) from None
        self._cipher: Any = aead.AESGCM
        self._path = path
        self._secret = secret
        self._identity = identity
        self._max_age = max_age
        self._client = client
        self._subject = subject

    def save(self, saved: Saved) -> None:
        """Replaces the file as a whole, unless another process has put a later state there meanwhile. Raises `CacheError`."""
        salt, nonce = os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
        view, servers = self._of(saved.subject)
        packed = b"".join(_pack(saved, sorted(servers), self._client))
        sealed = self._cipher(self._key(view, salt)).encrypt(nonce, packed, _MAGIC)
        temporary = None
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Made with mode 0600, under a name that no other process has.
            handle, temporary = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent)
            with os.fdopen(handle, "wb") as file:
                file.write(_MAGIC + salt + nonce + sealed)
                file.flush()
                os.fsync(file.fileno())
            # At the last moment, so that nobody comes in between but by a hair; whoever does writes again soon.
            if self._holds_later(saved, view, servers):
                os.unlink(temporary)
            else:
                os.replace(temporary, self._path)
        except OSError as error:
            if temporary is not None:
                pathlib.Path(temporary).unlink(missing_ok=True)
            raise CacheError(f"can't write {self._path}: {error.strerror}") from None

    def load(self, overrides: Overrides) -> Saved | None:
        """What the file holds; `None` where there is none. Raises `CacheError` for one that is not to be used."""
        self._sweep()
        sealed = self._read()
        if sealed is None:
            return None
        try:
            subject = self._subject()
        except TokenError as error:
            raise self._refused(f"whose it has to be is not known: {error}") from None
        view, servers = self._of(subject)
        try:
            saved = _unpack(self._unseal(sealed, view), servers, overrides, self._client, subject)
        except Exception:
            # One message for all: which of them it is, the file alone does not tell.
            raise self._refused(
                "it was changed, or is of another key, service, view or token subject"
            ) from None
        age = time.time() - saved.confirmed
        if age > self._max_age:
            raise self._refused(f"it is {age:.0f} s old, and the limit is {self._max_age:.0f} s")
        if age < -_SKEW:
            raise self._refused("it is of the future")
        return saved

    def remove(self) -> None:
        """Takes the file away, if there is one, and what others have left beside it. Raises `CacheError`."""
        self._sweep()
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise CacheError(f"can't remove {self._path}: {error.strerror}") from None

    def _read(self) -> bytes | None:
        try:
            handle = open_file(self._path, os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._refused(error.strerror or "it can't be opened") from None
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_BYTES:
                raise self._refused("it is no file, or too large")
            if status.st_uid != os.geteuid() or status.st_mode & 0o077:
                raise self._refused("others have access to it, or own it")
            with os.fdopen(handle, "rb", closefd=False) as file:
                content = file.read(_MAX_BYTES)
        finally:
            os.close(handle)
        if not content.startswith(_MAGIC):
            raise self._refused("it is no cache of this version")
        return content[len(_MAGIC) :]

    def _unseal(self, sealed: bytes, view: bytes) -> bytes:
        salt, rest = sealed[:_SALT_BYTES], sealed[_SALT_BYTES:]
        cipher = self._cipher(self._key(view, salt))
        packed: bytes = cipher.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], _MAGIC)
        return packed

    def _holds_later(self, saved: Saved, view: bytes, servers: set[str]) -> bool:
        """Whether the file makes a state needless: several processes may share one, and the last to write need not know most.
        What can't be read does not, nor what is of the future."""
        try:
            sealed = self._read()
            header = None if sealed is None else _header(self._unseal(sealed, view), servers)[0]
            return header is not None and _is_later(header, saved)
        except Exception:
            # Whatever is wrong with it, it is replaced.
            return False

    def _sweep(self) -> None:
        """Removes what processes that were killed while they wrote have left beside the file."""
        # Python's own names of temporary files, and those of the client in Rust.
        left = re.compile(rf"\.{re.escape(self._path.name)}\.([a-z0-9_]{{8}}|[0-9a-f]{{16}})")
        # One that can't be removed is in nobody's way.
        with contextlib.suppress(OSError), os.scandir(self._path.parent) as entries:
            for entry in entries:
                if not left.fullmatch(entry.name) or not entry.is_file(follow_symlinks=False):
                    continue
                with contextlib.suppress(OSError):
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime > _LEFT_BEHIND:
                        os.unlink(entry.path)

    def _refused(self, why: str) -> CacheError:
        return CacheError(f"{self._path} is not used: {why}")

    def _of(self, subject: Subject) -> tuple[bytes, set[str]]:
        """What it has to be of: the fingerprint of view and token subject, and those of the servers."""
        identity = self._identity(subject)
        view, servers = identity[:_FINGERPRINT], identity[_FINGERPRINT:]
        starts = range(0, len(servers), _FINGERPRINT)
        return view, {servers[start : start + _FINGERPRINT].hex() for start in starts}

    def _key(self, view: bytes, salt: bytes) -> bytes:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        label = b"signalbox client cache\0"
        key: bytes = HKDF(hashes.SHA256(), 32, salt, label + view).derive(self._secret)
        return key


def identity(urls: tuple[str, ...], selectors: Any, secrets: bool, subject: tuple[str, str]) -> bytes:
    """What a cache is of, so that it opens for nothing else: a fingerprint of the view and of whom the token speaks for, and
    then one of each server, sorted."""
    picked = sorted(_selector(each) for each in selectors)
    view = [_number(len(picked)), *picked, _number(int(secrets)), *(_text(each) for each in subject)]
    servers = {hashlib.sha256(_server(url).encode()).digest() for url in urls}
    return hashlib.sha256(b"".join(view)).digest() + b"".join(sorted(servers))


def _server(url: str) -> str:
    """An address in its one spelling."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _selector(selector: Any) -> bytes:
    sorts = (("name", selector.name), ("prefix", selector.prefix), ("kind", selector.kind))
    sort, pattern = next(((sort, pattern) for sort, pattern in sorts if pattern is not None), ("all", ""))
    labels = sorted(selector.labels.items(), key=lambda label: label[0].encode())
    head = _text(sort) + _text(pattern) + _number(len(labels))
    return head + b"".join(_text(key) + _text(value) for key, value in labels)


def _number(value: int) -> bytes:
    return value.to_bytes(4, "little")


def _text(value: str) -> bytes:
    encoded = value.encode()
    return _number(len(encoded)) + encoded


def read_key_file(path: pathlib.Path) -> bytes:
    """The secret in a key file. Raises `CredentialFileError`."""
    try:
        handle = open_file(path)
    except OSError as error:
        raise CredentialFileError(f"can't read {path}: {error.strerror}") from None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise CredentialFileError(f"can't read {path}: it is no file")
        if status.st_mode & 0o027 or status.st_uid not in (0, os.geteuid()):
            raise CredentialFileError(
                f"{path} is not used: others have access to it, its group may write it, or others own it"
            )
        with os.fdopen(handle, "rb", closefd=False) as file:
            content = file.read(_MAX_KEY_BYTES + 1)
    except OSError as error:
        raise CredentialFileError(f"can't read {path}: {error.strerror}") from None
    finally:
        os.close(handle)
    if len(content) > _MAX_KEY_BYTES:
        raise CredentialFileError(f"{path} is not used: a key has at most {_MAX_KEY_BYTES} bytes")
    secret = content.strip()
    if len(secret) < 32:
        raise CredentialFileError(f"{path} is not used: a key has at least 32 characters, made at random")
    return secret


def _pack(saved: Saved, servers: list[str], client: str) -> Iterator[bytes]:
    snapshot = saved.snapshot
    kinds = sorted({resource.kind for resource in snapshot._resources.values()})
    header = json.dumps(
        {
            "revision": snapshot.revision,
            # A copy, because the watching thread adds to it.
            "revoked": dict(snapshot._revoked),
            "resume_token": saved.cursor.resume_token,
            "view_id": saved.cursor.view_id,
            "confirmed": saved.confirmed,
            "kinds": kinds,
            "servers": servers,
            "client": client,
        }
    ).encode()
    yield _HEADER.pack(len(header)) + header
    number = {kind: at for at, kind in enumerate(kinds)}
    for resource in snapshot._resources.values():
        name = resource.name.encode()
        yield _FRAME.pack(number[resource.kind], len(name), resource.update_revision, len(resource._packed))
        yield name
        yield resource._packed


def _header(packed: bytes, servers: set[str]) -> tuple[dict[str, Any], int]:
    """What is said ahead of the resources, and where those begin."""
    (length,) = _HEADER.unpack_from(packed)
    at = _HEADER.size + length
    header: dict[str, Any] = json.loads(packed[_HEADER.size : at])
    if servers.isdisjoint(header["servers"]):
        raise ValueError("of another service")
    return header, at


def _is_later(header: dict[str, Any], saved: Saved) -> bool:
    """Whether a file holds a later state: a higher revision of the same life of the store, with all that is known to be revoked;
    or one that was confirmed so much later that revisions say nothing, because the store may have begun a life anew."""
    confirmed, revision = float(header["confirmed"]), int(header["revision"])
    if confirmed > time.time() + _SKEW:
        return False
    if confirmed > saved.confirmed + _CONFIRMED_LATER:
        return True
    same_life = header["view_id"] == saved.cursor.view_id and saved.confirmed <= confirmed + _CONFIRMED_LATER
    revoked = dict(saved.snapshot._revoked).items()
    known = all(revokes <= revision or name in header["revoked"] for name, revokes in revoked)
    return same_life and known and revision > saved.snapshot.revision


def _unpack(
    packed: bytes, servers: set[str], overrides: Overrides, client: str, subject: Subject = ("", "")
) -> Saved:
    header, at = _header(packed, servers)
    views = [VIEWS.get(kind, Resource) for kind in header["kinds"]]
    empty = Snapshot(overrides)
    draft = Draft(empty)
    draft.revision = header["revision"]
    while at < len(packed):
        kind, name_length, revision, size = _FRAME.unpack_from(packed, at)
        start = at + _FRAME.size + name_length
        name = packed[at + _FRAME.size : start].decode()
        draft.upsert(views[kind](name, revision, packed[start : start + size]))
        at = start + size
    return Saved(
        draft.publish(empty, header["revoked"]),
        # A client of another version may know kinds that the writer had to leave out: the next state comes whole.
        Cursor(header["resume_token"], header["view_id"]) if header["client"] == client else Cursor(),
        float(header["confirmed"]),
        subject,
    )
