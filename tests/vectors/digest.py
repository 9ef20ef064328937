#!/usr/bin/env python3
"""Writes digest.json beside this file: the digest of watch.md, computed without a line of the project's code."""

import hashlib
import json
import pathlib

VIEWS = {
    "empty": [],
    "one resource": [("providers/groq", 1)],
    "name and revision both count": [("providers/groq", 2)],
    "two resources": [("providers/groq", 1), ("providers/groq/apiKeys/prod", 2)],
    "largest revision": [("settings/max_retries", 2**64 - 1)],
    "revision bytes are little-endian": [("settings/a", 0x0102030405060708)],
    "names in UTF-8 are bytes": [("settings/schlüssel", 7)],
    "the sum wraps": [(f"settings/key_{n}", n * 1_000_003) for n in range(100)],
}


def term(name: str, revision: int) -> int:
    data = name.encode() + b"\0" + revision.to_bytes(8, "little")
    return int.from_bytes(hashlib.sha256(data).digest()[:16], "little")


def digest(view: list[tuple[str, int]]) -> str:
    return (sum(term(*entry) for entry in view) % 2**128).to_bytes(16, "little").hex()


vectors = {
    "about": "Digest of a view, see `src/digest.rs`. Made by `tests/vectors/digest.py`; do not edit. "
    "Revisions are decimal text, because JSON readers lose integers above 2^53.",
    "vectors": [
        {
            "description": description,
            "resources": [{"name": n, "update_revision": str(r)} for n, r in view],
            "digest_hex": digest(view),
        }
        for description, view in VIEWS.items()
    ],
}
path = pathlib.Path(__file__).with_suffix(".json")
path.write_text(json.dumps(vectors, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
