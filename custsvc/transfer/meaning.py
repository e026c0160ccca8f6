"""What the fields of a row mean for its customer: replace, keep, or apply only at a version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from ..domain.canonical import canonical_fields, edited, merge_patch
from ..domain.customers import INT64_MAX, Fields
from .row import METADATA, RowError, shown

Empty = Literal["clear", "keep"]
EMPTY: Final[tuple[Empty, ...]] = get_args(Empty)
Metadata = Literal["replace", "merge"]
METADATA_RULES: Final[tuple[Metadata, ...]] = get_args(Metadata)


@dataclass(frozen=True, slots=True)
class Meaning:
    """How rows change customers.

    `empty` says whether an empty cell, or null or "" in NDJSON, clears the customer's field or keeps it.
    `metadata` says whether a row's metadata object replaces that of the customer, or is merged into it as
    PATCH does (RFC 7396: null removes a key, other keys stay).
    """

    empty: Empty = "clear"
    metadata: Metadata = "replace"

    def fields(self, raw: Mapping[str, Any], old: Fields | None) -> Fields:
        """The customer's fields after the row. `metadata.KEY` sets one entry, null removes it.

        Raises ValidationError.
        """
        keeps = self.empty == "keep"
        given = {name: value for name, value in raw.items() if not (keeps and _is_empty(value))}
        body = {name: value for name, value in given.items() if not name.startswith(METADATA)}
        entries = {n.removeprefix(METADATA): given[n] for n in given if n.startswith(METADATA)}
        whole = body.get("metadata")
        merges = "metadata" not in body or (self.metadata == "merge" and isinstance(whole, dict))
        if old is not None and merges:
            patch = {**(whole or {}), **entries}
            return merge_patch(old, {**body, "metadata": patch} if patch else body)
        if isinstance(whole or {}, dict) and (entries or merges):
            body["metadata"] = _without_nulls(
                {**(whole or {}), **entries}, (whole or {}) if merges else {}, entries
            )
        return edited(old, body) if old else canonical_fields(body)


def _without_nulls(metadata: Mapping[str, Any], *patches: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata without the keys that a patch removes; a null that no patch sets is a value."""
    gone = {key for patch in patches for key in patch if metadata[key] is None}
    return {key: value for key, value in metadata.items() if key not in gone}


def _is_empty(value: Any) -> bool:
    return value is None or value == ""


def guarded_version(raw: Mapping[str, Any]) -> int | RowError | None:
    """The customer's version that a row was made from; None if the row names none."""
    value = raw.get("version")
    if _is_empty(value):
        return None
    text = value.strip() if isinstance(value, str) else ""
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else value
    if type(number) is not int or not 0 < number <= INT64_MAX:
        return RowError("version", "bad_version", "must be a customer's version, or empty", shown(value))
    return number


def conflict(version: int, current: int) -> RowError:
    """The error of a row that was made from another version than the customer has now."""
    message = (
        f"the customer is at version {current}, the row was made from version {version} and is not applied; "
        "export it again, or remove the version from the row to overwrite the customer"
    )
    return RowError("version", "version_mismatch", message, str(version))
