#!/usr/bin/env python3
"""Writes flags.json beside this file: feature flags as feature_flag.proto has them, evaluated without a line of the project's code."""

import hashlib
import json
import pathlib
import re

OPERATOR = "FEATURE_FLAG_OPERATOR_"
BOOLEAN = "FEATURE_FLAG_TYPE_BOOLEAN"
PERCENTAGE = "FEATURE_FLAG_TYPE_PERCENTAGE"
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def bucket(salt: str, key: str) -> int:
    digest = hashlib.sha256(salt.encode() + b"\n" + key.encode()).digest()
    return int.from_bytes(digest[:8], "big") % 10_000


def number(text: str):
    return float(text) if len(text.encode()) <= 64 and NUMBER.fullmatch(text) else None


def compare(attribute: str, value: str, test) -> bool:
    left, right = number(attribute), number(value)
    return left is not None and right is not None and test(left, right)


OPERATORS = {
    "IN": lambda a, values: a in values,
    "NOT_IN": lambda a, values: a not in values,
    "STARTS_WITH": lambda a, values: any(a.startswith(v) for v in values),
    "ENDS_WITH": lambda a, values: any(a.endswith(v) for v in values),
    "CONTAINS": lambda a, values: any(v in a for v in values),
    "LESS_THAN": lambda a, values: compare(a, values[0], lambda x, y: x < y),
    "LESS_OR_EQUAL": lambda a, values: compare(a, values[0], lambda x, y: x <= y),
    "GREATER_THAN": lambda a, values: compare(a, values[0], lambda x, y: x > y),
    "GREATER_OR_EQUAL": lambda a, values: compare(a, values[0], lambda x, y: x >= y),
    "EXISTS": lambda a, values: True,
}


def decide(rule: dict, context: dict, place):
    attribute = context.get(rule["attribute"])
    operator = OPERATORS.get(rule["operator"].removeprefix(OPERATOR))
    if attribute is None or operator is None or not operator(attribute, rule.get("values", [])):
        return None
    if "on" in rule:
        return rule["on"]
    if "rolloutBasisPoints" in rule and place is not None:
        return place < rule["rolloutBasisPoints"]
    return None


def evaluate(flag: dict, key: str, attributes: dict) -> bool:
    if not flag.get("enabled", True):
        return False
    place = bucket(flag["salt"], key) if key else None
    context = {**attributes, "key": key}
    for rule in flag.get("rules", []):
        on = decide(rule, context, place)
        if on is not None:
            return on
    if flag["type"] == PERCENTAGE and place is not None:
        return place < flag.get("rolloutBasisPoints", 0)
    return flag.get("defaultOn", False)


BUCKETS = [
    ("", "a"),
    ("new_ui", "alice"),
    ("new_ui", "bob"),
    ("new_ui", "user-12345"),
    ("search", "alice"),
    ("a", "b\nc"),
    ("a\u00fc", "Z\u00fcrich"),
    ("new_ui", "\U0001f680"),
    ("new_ui", " alice"),
    ("new_ui", "x" * 1000),
    *(("rollout", f"user-{n}") for n in range(10)),
]


def rule(attribute: str, operator: str, values=(), **outcome) -> dict:
    return {"attribute": attribute, "operator": OPERATOR + operator, "values": list(values), **outcome}


def flag(of: str, **fields) -> dict:
    return {"type": of, "salt": "new_ui", **fields}


PEOPLE = [("alice", {}), ("bob", {}), ("user-12345", {}), ("", {}), ("\U0001f680", {})]


def with_attribute(name: str, *values: str) -> list:
    return [("alice", {}), *(("alice", {name: value}) for value in values)]


TEXTS = ["CH", "ch", "", "CHE", "XCH", "Z\u00fcrich", "Zu\u0308rich"]
NUMBERS = ["5", "5.0", "4.999", "-5", "10", "05", "1e1", "+6", " 6", "", "6.", ".6", "NaN", "9" * 64, "9" * 65, "\u0665"]

EVALUATIONS = {
    "boolean, off": (flag(BOOLEAN), PEOPLE),
    "boolean, on": (flag(BOOLEAN, defaultOn=True), PEOPLE),
    "disabled, whatever else is said": (
        flag(BOOLEAN, enabled=False, defaultOn=True, rules=[rule("key", "EXISTS", on=True)]),
        PEOPLE,
    ),
    "nobody": (flag(PERCENTAGE), PEOPLE),
    "everybody; without a key the default": (flag(PERCENTAGE, rolloutBasisPoints=10_000), PEOPLE),
    "a quarter": (flag(PERCENTAGE, rolloutBasisPoints=2_500), [(f"user-{n}", {}) for n in range(20)]),
    "up to a bucket and with it": (flag(PERCENTAGE, rolloutBasisPoints=bucket("new_ui", "alice") + 1), PEOPLE),
    "up to a bucket and without it": (flag(PERCENTAGE, rolloutBasisPoints=bucket("new_ui", "alice")), PEOPLE),
    "without a key the default that is on": (flag(PERCENTAGE, defaultOn=True), PEOPLE),
    "the attribute `key` is the key": (
        flag(BOOLEAN, rules=[rule("key", "IN", ["alice"], on=True)]),
        [("alice", {}), ("bob", {"key": "alice"}), ("alice", {"key": "bob"})],
    ),
    "one of": (flag(BOOLEAN, rules=[rule("country", "IN", ["CH", "Z\u00fcrich"], on=True)]), with_attribute("country", *TEXTS)),
    "none of, which needs the attribute": (
        flag(BOOLEAN, rules=[rule("country", "NOT_IN", ["CH"], on=True)]),
        with_attribute("country", *TEXTS),
    ),
    "begins with": (flag(BOOLEAN, rules=[rule("country", "STARTS_WITH", ["CH", "Z"], on=True)]), with_attribute("country", *TEXTS)),
    "ends with": (flag(BOOLEAN, rules=[rule("country", "ENDS_WITH", ["CH"], on=True)]), with_attribute("country", *TEXTS)),
    "contains": (flag(BOOLEAN, rules=[rule("country", "CONTAINS", ["\u00fc", "H"], on=True)]), with_attribute("country", *TEXTS)),
    "is there": (flag(BOOLEAN, rules=[rule("country", "EXISTS", on=True)]), with_attribute("country", *TEXTS)),
    "less": (flag(BOOLEAN, rules=[rule("age", "LESS_THAN", ["5"], on=True)]), with_attribute("age", *NUMBERS)),
    "less or equal": (flag(BOOLEAN, rules=[rule("age", "LESS_OR_EQUAL", ["5"], on=True)]), with_attribute("age", *NUMBERS)),
    "greater": (flag(BOOLEAN, rules=[rule("age", "GREATER_THAN", ["-5.0"], on=True)]), with_attribute("age", *NUMBERS)),
    "greater or equal": (flag(BOOLEAN, rules=[rule("age", "GREATER_OR_EQUAL", ["5.0"], on=True)]), with_attribute("age", *NUMBERS)),
    "the first rule that matches decides": (
        flag(
            PERCENTAGE,
            rolloutBasisPoints=10_000,
            rules=[
                rule("country", "IN", ["DE"], on=False),
                rule("country", "IN", ["DE", "CH"], rolloutBasisPoints=5_000),
                rule("plan", "IN", ["free"], on=False),
            ],
        ),
        [
            (key, attributes)
            for key in ["alice", "bob", "user-12345", ""]
            for attributes in [
                {},
                {"country": "DE"},
                {"country": "CH"},
                {"country": "CH", "plan": "free"},
                {"country": "FR", "plan": "free"},
            ]
        ],
    ),
    "a rule that a client does not know does not match": (
        flag(BOOLEAN, defaultOn=True, rules=[rule("country", "FROM_THE_FUTURE", ["CH"], on=False), rule("country", "EXISTS")]),
        with_attribute("country", "CH"),
    ),
    "another salt, other keys": (
        {**flag(PERCENTAGE, rolloutBasisPoints=5_000), "salt": "search"},
        [(f"user-{n}", {}) for n in range(20)],
    ),
}

vectors = {
    "about": "Feature flags, see `proto/signalbox/v1/feature_flag.proto`. Made by `tests/vectors/flags.py`; do not edit. "
    "Flags are proto JSON.",
    "buckets": [{"salt": salt, "key": key, "bucket": bucket(salt, key)} for salt, key in BUCKETS],
    "evaluations": [
        {
            "description": description,
            "flag": given,
            "cases": [
                {"key": key, "attributes": attributes, "on": evaluate(given, key, attributes)} for key, attributes in cases
            ],
        }
        for description, (given, cases) in EVALUATIONS.items()
    ],
}
path = pathlib.Path(__file__).with_suffix(".json")
path.write_text(json.dumps(vectors, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
