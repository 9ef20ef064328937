"""Evaluates feature flags, without a call: every worker, in every language, gets the same answer.

Owns the rules that stand in the API at `FeatureFlagSpec`, to the letter; `tests/vectors/flags.json` of the repository holds
them together. Must not know where a flag comes from.
"""

from __future__ import annotations

import hashlib
import operator
import re
from collections.abc import Callable, Mapping

from .specs import FeatureFlagRule, FeatureFlagSpec

#: Buckets that keys fall into, so that a share can be told in hundredths of a percent.
_BUCKETS = 10_000
#: Longer texts are no numbers.
_NUMBER_BYTES = 64
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def evaluate(flag: FeatureFlagSpec, key: str, attributes: Mapping[str, str]) -> bool:
    """What a flag says for a key and its attributes; the attribute `key` is always the key."""
    if flag.enabled is False:
        return False
    place = bucket(flag.salt, key) if key else None
    for rule in flag.rules:
        attribute = key if rule.attribute == "key" else attributes.get(rule.attribute)
        on = None if attribute is None else _decide(rule, attribute, place)
        if on is not None:
            return on
    if flag.type == "percentage" and place is not None:
        return place < flag.rollout_basis_points
    return flag.default_on


def bucket(salt: str, key: str) -> int:
    """Where a key falls, from 0 to 9,999."""
    text = f"{salt}\n{key}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") % _BUCKETS


def _decide(rule: FeatureFlagRule, attribute: str, place: int | None) -> bool | None:
    """What a rule says; `None` where it does not match."""
    holds = _OPERATORS.get(rule.operator)
    # A newer server's operator: whoever can't tell does not match.
    if holds is None or not holds(attribute, rule.values):
        return None
    if rule.on is not None:
        return rule.on
    if rule.rollout_basis_points is not None and place is not None:
        return place < rule.rollout_basis_points
    return None


def _number(text: str) -> float | None:
    """A number in the one form that every language reads alike."""
    return float(text) if len(text) <= _NUMBER_BYTES and _NUMBER.fullmatch(text) else None


def _numeric(test: Callable[[float, float], bool]) -> Callable[[str, tuple[str, ...]], bool]:
    def holds(attribute: str, values: tuple[str, ...]) -> bool:
        left, right = _number(attribute), _number(values[0]) if values else None
        return left is not None and right is not None and test(left, right)

    return holds


_OPERATORS: Mapping[str, Callable[[str, tuple[str, ...]], bool]] = {
    "in": lambda attribute, values: attribute in values,
    "not_in": lambda attribute, values: attribute not in values,
    "starts_with": lambda attribute, values: attribute.startswith(values),
    "ends_with": lambda attribute, values: attribute.endswith(values),
    "contains": lambda attribute, values: any(value in attribute for value in values),
    "less_than": _numeric(operator.lt),
    "less_or_equal": _numeric(operator.le),
    "greater_than": _numeric(operator.gt),
    "greater_or_equal": _numeric(operator.ge),
    "exists": lambda _attribute, _values: True,
}
