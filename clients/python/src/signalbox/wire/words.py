"""Somebody else's words, such as a provider's: in one line of bounded length, without what is or may be a part of a key.

A key is looked for as it is and as it may come back: masked, cut, spread over words, percent-encoded, escaped as in JSON, in
base64 (`user:key`) or in hex. The server does the same, and both are held to `tests/vectors/words.json`. It must not know where
the words come from.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

#: Characters that are looked at: more than are repeated, since what is taken out makes room.
_READ_CHARS = 4_000
#: Characters that are repeated.
_MESSAGE_CHARS = 500
#: As many characters of a key in a row are a part of it.
_KEY_PART = 6
#: As many, where other characters stand between them.
_SPREAD_PART = 8
#: A word as long as this, with digits among its letters, may be a key.
_KEY_LIKE = 20
_REMOVED = "[removed]"
_MASKS = ("***", "...", "…", "•")
_RUN = re.compile(r"[A-Za-z0-9_.\-]+")
_BREAKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")
_SPACES = re.compile(r"\s+")
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|(.?))", re.DOTALL)
_ENCODED = re.compile(rf"[A-Za-z0-9+/\-_]{{{_KEY_PART},}}")

#: What shows nothing, and can hide a key from who looks for it or a text from who reads it: format characters (zero-width ones,
#: those that turn a line around), fillers and selectors of variants.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def without_keys(text: str, key: str | None) -> str:
    """Words in one line of bounded length, without what is or may be a part of a key."""
    read = _INVISIBLE.sub("", text[:_READ_CHARS])
    words = [word for word in _BREAKS.split(read) if word]
    parts = _parts(key or "", _KEY_PART)
    spread = _spread_over(words, _parts(_SPACES.sub("", key or ""), _SPREAD_PART))
    shown: list[str] = []
    for place, word in enumerate(words):
        taken = place in spread or _tells(word, parts)
        # One key in several words is one thing.
        if not (taken and shown and shown[-1] == _REMOVED):
            shown.append(_REMOVED if taken else word)
    return " ".join(shown)[:_MESSAGE_CHARS]


def _parts(key: str, size: int) -> frozenset[str]:
    """What stands in a row in a key, all of one size; a short key is one part."""
    size = min(size, len(key))
    return frozenset(_windows(key, size)) if size else frozenset()


def _windows(text: str, size: int) -> Iterator[str]:
    return (text[at : at + size] for at in range(len(text) - size + 1))


def _size(parts: frozenset[str]) -> int:
    return len(next(iter(parts), ""))


def _spread_over(words: list[str], parts: frozenset[str]) -> set[int]:
    """The places of the words over which a part of the key is spread."""
    places = [place for place, word in enumerate(words) for _ in word]
    size = _size(parts)
    found: set[int] = set()
    if size:
        for at, part in enumerate(_windows("".join(words), size)):
            if part in parts:
                found.update(places[at : at + size])
    return found


def _tells(word: str, parts: frozenset[str]) -> bool:
    """Whether a word shows a part of a key, as providers do: masked, cut, or as a whole, in whatever form."""
    masked = any(_masks(word, mask) for mask in _MASKS)
    return masked or _looks_like_a_key(word) or _in_any_form(word, parts)


def _masks(word: str, mask: str) -> bool:
    outer = "".join({letter for letter in word if not letter.isalnum() and letter not in mask})
    rest = word.strip(outer) if outer else word
    place = rest.find(mask)
    return place >= 0 and ((place > 0 and len(rest) > place + len(mask)) or "**" in rest)


def _looks_like_a_key(word: str) -> bool:
    return any(
        len(run) >= _KEY_LIKE and re.search("[0-9]", run) and re.search("[A-Za-z]", run)
        for run in _RUN.findall(word)
    )


def _in_any_form(word: str, parts: frozenset[str]) -> bool:
    if not parts:
        return False
    size = _size(parts)
    plain = _unescaped(word)
    forms = {word, plain, _percent_decoded(word), _percent_decoded(plain)}
    return any(
        part in parts for form in forms for text in (form, *_decoded(form)) for part in _windows(text, size)
    )


def _percent_decoded(text: str) -> str:
    """A text with `%2D` and the like as what they stand for."""
    return unquote_to_bytes(text.encode(errors="replace")).decode(errors="replace")


def _unescaped(text: str) -> str:
    """A text with the escapes of JSON as what they stand for; any other escaped letter stands for itself."""

    def meant(escape: re.Match[str]) -> str:
        letter = chr(int(escape[1], 16)) if escape[1] else escape[2]
        # Half a character stands for nothing.
        return escape[0][1:] if "\ud800" <= letter <= "\udfff" else letter

    return _ESCAPE.sub(meant, text)


def _decoded(text: str) -> Iterator[str]:
    """What the parts of a text stand for that may be base64 or hex."""
    for run in _ENCODED.findall(text):
        same = run.replace("-", "+").replace("_", "/")
        # A run may begin with what is none of it.
        for skip in range(4):
            part = same[skip:]
            # A single letter behind the last whole group stands for nothing.
            part = part[:-1] if len(part) % 4 == 1 else part
            yield base64.b64decode(part + "=" * (-len(part) % 4)).decode(errors="replace")
        try:
            yield bytes.fromhex(run[: len(run) // 2 * 2]).decode(errors="replace")
        except ValueError:
            continue
