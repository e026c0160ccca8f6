"""What a rule or a webhook endpoint asks for: ops, changed fields, and conditions, read from plain data."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from .rules import TESTS, Condition

_FIELD: Final = re.compile(r"(before\.)?(name|email|phone|deleted|version|metadata\..+)")
_CHANGED: Final = re.compile(r"name|email|phone|metadata(\..+)?")


class Wrong(Exception):
    """A value is wrong; `key` locates it."""

    def __init__(self, key: str, problem: str, fix: str = "") -> None:
        super().__init__(problem)
        self.key = key
        self.fix = fix


def unknown(word: str, known: Collection[str], what: str = "key") -> str:
    """The message about an unknown word, with the nearest known one."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"unknown {what} {word!r}" + (
        f", did you mean {near[0]!r}?" if near else f" (there are {', '.join(known)})"
    )


def texts(given: Mapping[str, Any], key: str) -> list[str]:
    """The list of texts under a key. Raises Wrong."""
    value = given.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise Wrong(key, f"{key} must be a list of texts")
    return value


def words(given: Mapping[str, Any], key: str, known: Collection[str]) -> frozenset[str]:
    """The texts under a key, at least one, all known. Raises Wrong."""
    words = texts(given, key)
    if not words:
        raise Wrong(key if key in given else "", f"{key} is missing (of {', '.join(known)})")
    for word in words:
        if word not in known:
            raise Wrong(key, unknown(word, known, "op"))
    return frozenset(words)


def changed_fields(given: Mapping[str, Any]) -> frozenset[str]:
    """The names of fields under `changed`. Raises Wrong."""
    names = texts(given, "changed")
    for name in names:
        if not _CHANGED.fullmatch(name):
            raise Wrong("changed", f"{name!r} is no field (name, email, phone, metadata, metadata.KEY)")
    return frozenset(names)


def conditions(given: Any) -> Iterator[Condition]:
    """The conditions of a `when`. Raises Wrong."""
    if not isinstance(given, dict):
        raise Wrong("when", 'when must be a table, as { "metadata.plan" = "gold" }')
    for name, asked in _flat(given):
        if not _FIELD.fullmatch(name):
            raise Wrong("when", f"{name!r} is no field (name, email, phone, version, metadata.KEY, before.…)")
        tests = asked if isinstance(asked, dict) else {"one_of" if isinstance(asked, list) else "is": asked}
        for test, value in tests.items():
            if test not in TESTS:
                raise Wrong("when", unknown(test, TESTS, "test"))
            _check_value(test, value)
            yield Condition(name, test, value)


def _flat(given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """TOML reads `metadata.plan` as a table in a table, unless it stands in quotes."""
    for name, asked in given.items():
        if name in ("metadata", "before", "before.metadata") and isinstance(asked, dict):
            yield from ((f"{name}.{key}", inner) for key, inner in _flat(asked))
        else:
            yield name, asked


def _check_value(test: str, value: Any) -> None:
    right = {
        "one_of": isinstance(value, list),
        "starts_with": isinstance(value, str),
        "ends_with": isinstance(value, str),
        "contains": isinstance(value, str),
        "there": isinstance(value, bool),
        "above": isinstance(value, str | int | float) and not isinstance(value, bool),
        "below": isinstance(value, str | int | float) and not isinstance(value, bool),
    }
    if not right.get(test, isinstance(value, str | int | float)):
        raise Wrong("when", f"{test} does not go with {value!r}")
