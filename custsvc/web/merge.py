"""Two people changed one customer: what goes together by itself, and what somebody must choose.

Pure data. A customer is laid out flat, each metadata key being a field of its own, so that two people who
set different keys are in nobody's way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ..domain.customers import Fields, canonical_fields, same_json

_META: Final = "metadata."


class _Absent:
    """The value of a metadata key that is not there, which null is not."""

    def __repr__(self) -> str:
        return "absent"


ABSENT: Final = _Absent()


@dataclass(frozen=True, slots=True)
class Clash:
    """A field that both changed, to different values."""

    name: str
    base: Any
    theirs: Any
    mine: Any


@dataclass(slots=True)
class Merge:
    """What a merge came to: the values that stand, the clashes, and the fields that came from the others."""

    values: dict[str, Any]
    clashes: list[Clash] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)

    def fields(self) -> Fields:
        """The customer of these values. Raises ValidationError."""
        return canonical_fields(nested(self.values))


def flat(fields: Fields) -> dict[str, Any]:
    """`name`, `email`, `phone` and `metadata.KEY`, in the order in which people read them."""
    values: dict[str, Any] = {"name": fields.name, "email": fields.email, "phone": fields.phone}
    return values | {_META + key: value for key, value in fields.metadata.items()}


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a customer, from what `flat` made."""
    body = {name: value for name, value in values.items() if not name.startswith(_META)}
    body["metadata"] = {
        name.removeprefix(_META): value
        for name, value in values.items()
        if name.startswith(_META) and value is not ABSENT
    }
    return body


def merge(base: Fields, theirs: Fields, mine: Fields, picks: Mapping[str, str] | None = None) -> Merge:
    """Bring `theirs` and `mine` together, both made from `base`.

    Where only one of them changed a field, that change stands. Where both did, `picks` says whose: `mine` or
    `theirs`; without a pick it is a clash, and theirs stands for the time being.
    """
    old, a, b = flat(base), flat(theirs), flat(mine)
    result = Merge({})
    for name in dict.fromkeys((*a, *b, *old)):
        was, their, my = (values.get(name, ABSENT) for values in (old, a, b))
        value = their
        if _same(their, was) or (picks or {}).get(name) == "mine":
            value = my
        elif _same(my, was):
            result.taken.append(name)
        elif not _same(my, their) and (picks or {}).get(name) != "theirs":
            result.clashes.append(Clash(name, was, their, my))
        result.values[name] = value
    return result


def _same(a: Any, b: Any) -> bool:
    return a is b or (ABSENT not in (a, b) and same_json(a, b))
