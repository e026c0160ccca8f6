"""Whether those who read by one JSON Schema can read what another one allows.

Writers move on, readers stay: whatever the new schema allows, the old one must have allowed too, but for
members of objects that are new. Only the words that our own schemas use are understood.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# Words whose value must not change, and those that may only become stricter.
_SAME = ("pattern", "format")
_AT_MOST = ("maximum", "maxLength", "maxProperties", "maxItems")
_AT_LEAST = ("minimum", "minLength", "minProperties", "minItems")


def breaks(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What readers of `old` may meet in `new` that they were never told of; empty where it is compatible."""
    return list(_Comparison(old, new).differences(old, new, "event"))


class _Comparison:
    def __init__(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        self._roots = (old, new)

    def differences(self, old: Any, new: Any, at: str) -> Iterator[str]:
        old, new = _resolved(old, self._roots[0]), _resolved(new, self._roots[1])
        if "anyOf" in old or "anyOf" in new:
            yield from self._alternatives(old, new, at)
            return
        if not _types(new) <= _types(old):
            yield f"{at} may be {' or '.join(sorted(_types(new) - _types(old)))}"
            return
        if ((before := _values(old)) and not (after := _values(new)) <= before) or (before and not after):
            yield f"{at} may have other values than {sorted(before)}"
        for word in _SAME:
            if word in old and old[word] != new.get(word):
                yield f"{at}: {word} changed"
        for word in _AT_MOST:
            if word in old and new.get(word, float("inf")) > old[word]:
                yield f"{at}: {word} grew"
        for word in _AT_LEAST:
            if word in old and new.get(word, -float("inf")) < old[word]:
                yield f"{at}: {word} fell"
        if "items" in old:
            yield from self.differences(old["items"], new.get("items", {}), f"{at}[]")
        yield from self._members(old, new, at)

    def _alternatives(self, old: Any, new: Any, at: str) -> Iterator[str]:
        allowed = old.get("anyOf", [old])
        for each in new.get("anyOf", [new]):
            tries = [list(self.differences(one, each, at)) for one in allowed]
            if all(tries):
                yield min(tries, key=len)[0] if len(tries) == 1 else f"{at} may be what it never was: {each}"

    def _members(self, old: Any, new: Any, at: str) -> Iterator[str]:
        members = new.get("properties", {})
        for name in old.get("required", ()):
            if name not in new.get("required", ()):
                yield f"{at}.{name} may be missing"
        for name, schema in old.get("properties", {}).items():
            if name in members:
                yield from self.differences(schema, members[name], f"{at}.{name}")
            elif name not in old.get("required", ()):
                yield f"{at}.{name} is gone"
        if isinstance(of := old.get("additionalProperties"), dict):
            yield from self.differences(of, new.get("additionalProperties", {}), f"{at}.*")


def _resolved(schema: Any, root: dict[str, Any]) -> Any:
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


def _types(schema: Any) -> set[str]:
    given = schema.get("type", "anything")
    types = set(given) if isinstance(given, list) else {given}
    return types | {"integer"} if "number" in types else types


def _values(schema: Any) -> set[Any]:
    return set(schema.get("enum", ())) | ({schema["const"]} if "const" in schema else set())
