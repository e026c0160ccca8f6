"""The cells of a row of a table, or the members of an object, as the fields of a customer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..domain.strict_json import DuplicateKey, parse_json
from .encodings import UTF_8, label
from .headings import NAME_PARTS
from .row import METADATA, Row, RowError, Tally, shown
from .sheet import unguarded
from .spoilt import doubtful, spoilt, unwrapped

# As address books write addresses: behind a name, or as links.
_NAMED: Final = re.compile(r"[^<>]*<([^<>]*)>\s*")
_MAILTO: Final = re.compile(r"^\s*mailto:", re.IGNORECASE)
_CHECKED: Final = ("name", "email", "phone", *NAME_PARTS)


def row_of(number: int, fields: Sequence[str], cells: Sequence[str], tally: Tally) -> Row:
    """The row of these cells. A cell that a spreadsheet has spoilt is skipped, with a warning."""
    raw: dict[str, Any] = {}
    warnings: list[RowError] = []
    for field, cell in zip(fields, cells, strict=True):
        if not field:
            continue
        if field == "metadata":
            if (error := _put_metadata(raw, cell)) is not None:
                return Row(number, raw, error)
            continue
        text = _text(cell, tally)
        if field.startswith(METADATA):
            warning = spoilt(field, text) if text.startswith("#") else doubtful(field, text)
            kept = warning is None or warning.code == "spoilt_number"
        else:
            warning = spoilt(field, text) if field in _CHECKED else None
            kept = warning is None
            text = plain_address(text) if field == "email" else text
        if kept:
            raw[field] = text or None
        if warning is not None:
            warnings.append(warning)
    return Row(number, named(raw), warnings=tuple(warnings))


def plain_address(text: str) -> str:
    """The address in `Ada Lovelace <ada@example.org>` or `mailto:ada@example.org`; else the text itself."""
    found = _NAMED.fullmatch(text)
    return _MAILTO.sub("", found[1] if found else text)


def _text(cell: str, tally: Tally) -> str:
    wrapped = unwrapped(cell)
    if wrapped is None:
        return unguarded(cell)
    tally.unwrapped += 1
    return wrapped


def _put_metadata(raw: dict[str, Any], cell: str) -> RowError | None:
    try:
        raw["metadata"] = parse_json(cell) if cell.strip() else None
    except DuplicateKey as exc:
        return RowError("metadata", "duplicate_key", f"has the key {str(exc)!r} twice", shown(cell))
    except (ValueError, RecursionError):
        return RowError("metadata", "bad_json", "must be a JSON object", shown(cell))
    return None


def named(raw: dict[str, Any]) -> dict[str, Any]:
    """The fields with the parts of the name joined, if they have no whole name."""
    if not any(part in raw for part in NAME_PARTS):
        return raw
    parts = [raw.pop(part, None) for part in NAME_PARTS]
    if not raw.get("name"):
        raw["name"] = (
            " ".join(part.strip() for part in parts if isinstance(part, str) and part.strip()) or None
        )
    return raw


def renamed(raw: Mapping[str, Any], fields: Mapping[str, str]) -> dict[str, Any] | str:
    """An object with its keys renamed to fields, "" dropped; or the field that two keys have."""
    found: dict[str, Any] = {}
    for key, value in raw.items():
        name = fields.get(key, key)
        if name in found:
            return name
        if name:
            found[name] = value
    return named(found)


def undecodable(encoding: str, text: str | None = None) -> RowError:
    """The error of a line that is not of the file's encoding."""
    message = f"is not {label(encoding)}; name the encoding of the file, or save it as UTF-8"
    if encoding == UTF_8:
        message = "is not UTF-8; save the file as UTF-8"
    return RowError("", "bad_utf8", message, shown(text))
