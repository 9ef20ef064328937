"""What a worker wants to see, and what a callback wants to hear of.

Owns selectors as a client uses them. Must not know streams or the cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import OptionsError
from .resources import VIEWS, Resource


@dataclass(frozen=True)
class Selector:
    """Picks resources: by name, by prefix, by kind, or all; narrowed by labels where these are given."""

    name: str | None = None
    prefix: str | None = None
    kind: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if sum(part is not None for part in (self.name, self.prefix, self.kind)) > 1:
            raise OptionsError("a selector has one of name, prefix and kind")
        if self.kind is not None and self.kind not in VIEWS:
            raise OptionsError(f"kind {self.kind!r} is none of {', '.join(VIEWS)}")

    @classmethod
    def parse(cls, text: str) -> Selector:
        """From the form that grants have: `providers/*`, `kind:setting`, `settings/max_retries`, `*`."""
        if text == "*":
            return cls()
        if text.startswith("kind:"):
            return cls(kind=text.removeprefix("kind:"))
        if text.endswith(("/*", "/")):
            return cls(prefix=text.removesuffix("*"))
        # Each name has its collection in front.
        if "/" not in text or "*" in text:
            raise OptionsError(f"selector {text!r}: a name, a prefix as in providers/*, kind:setting, or *")
        return cls(name=text)

    def matches(self, resource: Resource[Any]) -> bool:
        """Whether the resource is picked."""
        if self.name is not None:
            named = resource.name == self.name
        elif self.prefix is not None:
            named = resource.name.startswith(self.prefix)
        else:
            named = self.kind is None or resource.kind == self.kind
        return named and all(resource.labels.get(key) == value for key, value in self.labels.items())

    def to_wire(self, message: Any) -> None:
        """Fills in the API's message."""
        for part in ("name", "prefix", "kind"):
            if getattr(self, part) is not None:
                setattr(message, part, getattr(self, part))
        message.labels.update(self.labels)


def selectors(
    given: str | Selector | list[str | Selector] | tuple[str | Selector, ...],
) -> tuple[Selector, ...]:
    """One or several, as text or made."""
    several = given if isinstance(given, list | tuple) else (given,)
    return tuple(Selector.parse(each) if isinstance(each, str) else each for each in several)
