"""Merges two edits of one customer, and finds the fields that the user must choose.

Pure data. Each metadata key counts as a field, so that two users who set different keys do not clash.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ..domain.canonical import canonical_fields
from ..domain.customers import Fields, same_json

_META: Final = "metadata."


class _Absent:
    """The value of a missing metadata key, as distinct from null."""

    def __repr__(self) -> str:
        return "absent"


ABSENT: Final = _Absent()


@dataclass(frozen=True, slots=True)
class Clash:
    """A field that both users changed, to different values."""

    name: str
    base: Any
    theirs: Any
    mine: Any


@dataclass(slots=True)
class Merge:
    """The result of a merge: the merged values, the clashes, and the fields taken from `theirs`."""

    values: dict[str, Any]
    clashes: list[Clash] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)

    def fields(self) -> Fields:
        """The customer of these values. Raises ValidationError."""
        return canonical_fields(nested(self.values))


def flat(fields: Fields) -> dict[str, Any]:
    """`name`, `email`, `phone` and `metadata.KEY`, in the order of the page."""
    values: dict[str, Any] = {"name": fields.name, "email": fields.email, "phone": fields.phone}
    return values | {_META + key: value for key, value in fields.metadata.items()}


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a customer, from values as `flat` returns them."""
    body = {name: value for name, value in values.items() if not name.startswith(_META)}
    body["metadata"] = {
        name.removeprefix(_META): value
        for name, value in values.items()
        if name.startswith(_META) and value is not ABSENT
    }
    return body


def merge(base: Fields, theirs: Fields, mine: Fields, picks: Mapping[str, str] | None = None) -> Merge:
    """Merge `theirs` and `mine`, both edited from `base`.

    A field that only one of them changed gets that change. For a field that both changed, `picks` names
    `mine` or `theirs`; without a pick the field is a clash and has the value of `theirs` until then.
    """
    old, a, b = flat(base), flat(theirs), flat(mine)
    result = Merge({})
    for name in dict.fromkeys((*a, *b, *old)):
        was, their, my = (values.get(name, ABSENT) for values in (old, a, b))
        value = their
        if same(their, was) or (picks or {}).get(name) == "mine":
            value = my
        elif same(my, was):
            result.taken.append(name)
        elif not same(my, their) and (picks or {}).get(name) != "theirs":
            result.clashes.append(Clash(name, was, their, my))
        result.values[name] = value
    return result


def same(a: Any, b: Any) -> bool:
    """Whether two values of `flat` are written alike, or both are missing."""
    return a is b or (ABSENT not in (a, b) and same_json(a, b))
