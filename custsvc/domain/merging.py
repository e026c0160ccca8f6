"""What several customers become when they turn out to be one, and how that is taken back.

The survivor keeps its values; where it has none, the first of the others that has one gives it. A patch
decides otherwise. Undoing a merge gives back the survivor's earlier values, but not over what was changed
since.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from ..errors import FieldError, ValidationError
from .canonical import merge_patch
from .customers import METADATA_KEYS_MAX, Fields, Scalar, same_json

_PLAIN: Final = ("name", "email", "phone")
_ABSENT: Final = object()


@dataclass(frozen=True, slots=True)
class Combined:
    """The survivor's fields after a merge, and which of the others has each new value.

    `took` is by `name`, `email`, `phone` and `metadata.KEY`, without values that none of the others has.
    """

    fields: Fields
    took: dict[str, int]


def combined(survivor: Fields, others: Mapping[int, Fields], patch: Any) -> Combined:
    """Merge customers (by id, in the order of their precedence) into the survivor, then apply the patch.

    Raises ValidationError for a patch that is wrong, or more metadata than a customer can have.
    """
    fields = survivor
    for other in others.values():
        fields = _filled(fields, other)
    fields = merge_patch(fields, patch)
    _check_keys(fields, 'remove some by "fields": {"metadata": {"KEY": null}}')
    return Combined(fields, dict(_taken(survivor, fields, others)))


def _check_keys(fields: Fields, fix: str) -> None:
    count = len(fields.metadata)
    if count > METADATA_KEYS_MAX:
        message = f"would have {count} keys, a customer can have {METADATA_KEYS_MAX}: {fix}"
        raise ValidationError([FieldError("fields.metadata", "too_many_keys", message)])


def _filled(fields: Fields, other: Fields) -> Fields:
    return replace(
        fields,
        email=fields.email if fields.email is not None else other.email,
        phone=fields.phone if fields.phone is not None else other.phone,
        metadata={**other.metadata, **fields.metadata},
    )


def _taken(before: Fields, after: Fields, others: Mapping[int, Fields]) -> Iterator[tuple[str, int]]:
    old, new = _values(before), _values(after)
    given = {customer_id: _values(fields) for customer_id, fields in others.items()}
    for name, value in new.items():
        if not _same(value, old.get(name, _ABSENT)):
            for customer_id, values in given.items():
                if _same(value, values.get(name, _ABSENT)):
                    yield name, customer_id
                    break


@dataclass(frozen=True, slots=True)
class Undone:
    """The survivor's fields without a merge; `kept` names those that were changed since, so stay."""

    fields: Fields
    kept: list[str]


def undone(now: Fields, before: Fields, merged: Fields) -> Undone:
    """Take back what a merge changed from `before` to `merged`, where nobody changed it since.

    Raises ValidationError if keys that were added since leave no room for those that the merge removed.
    """
    current, old, new = _values(now), _values(before), _values(merged)
    kept = []
    for name in dict.fromkeys((*old, *new)):
        was, became = old.get(name, _ABSENT), new.get(name, _ABSENT)
        if _same(was, became):
            continue
        if not _same(current.get(name, _ABSENT), became):
            kept.append(name)
        elif was is _ABSENT:
            del current[name]
        else:
            current[name] = was
    fields = _fields(current)
    if len(fields.metadata) > len(now.metadata):
        _check_keys(fields, "remove some that were added after the merge")
    return Undone(fields, kept)


def _values(fields: Fields) -> dict[str, Any]:
    """The values of a customer by field, those of metadata by `metadata.KEY`."""
    plain = {name: getattr(fields, name) for name in _PLAIN}
    return plain | {f"metadata.{key}": value for key, value in fields.metadata.items()}


def _fields(values: Mapping[str, Any]) -> Fields:
    metadata: dict[str, Scalar] = {
        name.removeprefix("metadata."): value for name, value in values.items() if name not in _PLAIN
    }
    return Fields(values["name"], values["email"], values["phone"], metadata)


def _same(a: object, b: object) -> bool:
    if a is _ABSENT or b is _ABSENT:
        return a is b
    return same_json(a, b)
