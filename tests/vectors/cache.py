#!/usr/bin/env python3
"""Writes cache.json beside this file: a cache of a client on disk as `src/client/cache/` describes it, made without a line
of the project's code. Needs the package cryptography."""

import base64
import hashlib
import json
import pathlib
import struct

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MAGIC = b"signalbox cache 3\n"
SECRET = "a-secret-of-at-least-thirty-two-characters"
SALT, NONCE = bytes(range(16)), bytes(range(100, 112))
CONFIRMED = 1_700_000_000
# The cache was written with the first list; the second one, in which one server is the same, opens it.
WRITTEN = ["https://b.example:50051", "https://a.example:443"]
URLS = ["HTTPS://A.example/", "http://[::1]", "https://c.example:50051"]
ONE_SPELLING = ["https://a.example:443", "http://[::1]:80", "https://c.example:50051"]
SELECTORS = [
    ("all", "", {}),
    ("prefix", "providers/", {"tier": "gold", "area": "eu"}),
    ("name", "settings/a", {}),
    ("kind", "setting", {}),
]
CLAIMS = {"iss": "signalbox", "sub": "worker-7"}


def number(value: int) -> bytes:
    return value.to_bytes(4, "little")


def text(value: str) -> bytes:
    return number(len(value.encode())) + value.encode()


def view() -> bytes:
    picked = sorted(
        text(sort) + text(pattern) + number(len(labels)) + b"".join(text(key) + text(labels[key]) for key in sorted(labels))
        for sort, pattern, labels in SELECTORS
    )
    parts = [number(len(picked)), *picked, number(1)]
    return hashlib.sha256(b"".join(parts) + text(CLAIMS["iss"]) + text(CLAIMS["sub"])).digest()


def servers(urls: list[str]) -> list[bytes]:
    return sorted(hashlib.sha256(url.encode()).digest() for url in urls)


def varint(value: int) -> bytes:
    head = bytes([value & 0x7F | (0x80 if value > 0x7F else 0)])
    return head if value <= 0x7F else head + varint(value >> 7)


def field(at: int, content: bytes | str) -> bytes:
    content = content.encode() if isinstance(content, str) else content
    return varint(at << 3 | 2) + varint(len(content)) + content


def integer(at: int, value: int) -> bytes:
    return varint(at << 3) + varint(value)


def resource(name: str, revision: int, arm: int, spec: bytes) -> bytes:
    """A `Resource`; numbers of fields as in `proto/signalbox/v1/`."""
    return field(1, name) + integer(6, revision) + field(arm, spec)


# A key with a secret that is present, and a setting with an integer.
RESOURCES = [
    (0, "providers/groq/apiKeys/prod", 7, 21, field(1, field(1, "gsk-vector") + integer(2, 2))),
    (1, "settings/a", 8, 22, integer(2, 5)),
]
HEADER = {
    "revision": 9,
    "resume_token": "token-9",
    "view_id": "view-1",
    "confirmed": float(CONFIRMED),
    "revoked": {"settings/a": 12},
    "kinds": ["api_key", "setting"],
    "servers": [server.hex() for server in servers(WRITTEN)],
    "client": "vector/1",
}


def state() -> bytes:
    header = json.dumps(HEADER).encode()
    parts = [number(len(header)), header]
    for kind, name, revision, arm, spec in RESOURCES:
        message = resource(name, revision, arm, spec)
        parts += [struct.pack("<BHQI", kind, len(name), revision, len(message)), name.encode(), message]
    return b"".join(parts)


def digest() -> str:
    terms = (hashlib.sha256(name.encode() + b"\0" + revision.to_bytes(8, "little")) for _, name, revision, _, _ in RESOURCES)
    return (sum(int.from_bytes(term.digest()[:16], "little") for term in terms) % 2**128).to_bytes(16, "little").hex()


def part(claims: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")


key = HKDF(hashes.SHA256(), 32, SALT, b"signalbox client cache\0" + view()).derive(SECRET.encode())
vector = {
    "about": "A cache on disk, see `src/client/cache/format.rs`. Made by `tests/vectors/cache.py`; do not edit. "
    "Selectors: everything, providers/ with labels tier=gold and area=eu, settings/a, kind setting. With secrets.",
    "secret": SECRET,
    "urls": URLS,
    "token": f"{part({'alg': 'HS256'})}.{part(CLAIMS)}.c2ln",
    "identity": (view() + b"".join(servers(ONE_SPELLING))).hex(),
    "confirmed": CONFIRMED,
    "revision": HEADER["revision"],
    "digest": digest(),
    "file": (MAGIC + SALT + NONCE + AESGCM(key).encrypt(NONCE, state(), MAGIC)).hex(),
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(vector, indent=2) + "\n")
