"""The canonical form of what a caller writes: one form for each customer, or errors that name the fields."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any, Final

from ..errors import FieldError, ValidationError, unknown_fields
from .customers import (
    EDITABLE,
    EMAIL_MAX,
    INT64_MAX,
    METADATA_KEY_MAX,
    METADATA_KEYS_MAX,
    METADATA_VALUE_MAX,
    NAME_MAX,
    PHONE_MAX,
    SERVER_OWNED,
    Fields,
    Scalar,
)
from .marks import normalized
from .strict_json import NOT_EXACT, Inexact

_LOCAL_MAX = 64
_PLAIN_LOCAL = re.compile(r"[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*")
_KNOWN = frozenset((*EDITABLE, *SERVER_OWNED))
_TOO_MANY_KEYS = f"must have at most {METADATA_KEYS_MAX} keys"
_UNKNOWN = f"is not a field of a customer ({', '.join(EDITABLE)})"

# Any visible character: no white space, no Default_Ignorable_Code_Point of Unicode, no blank signs.
_SEEN: Final = re.compile(
    "[^\\s\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# Marks that reorder or hide text, so that one customer can look like another.
_HIDDEN = frozenset(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200B, 0x2060, 0xFEFF)))

# Removed from both ends of a value: white space and marks, but no joiners, which end words in some scripts.
_EDGES: Final = "".join(
    [
        *(chr(code) for code in range(0x3001) if chr(code).isspace()),
        *_HIDDEN,
        *"\xad\u061c\u180e\u200e\u200f\u2800\u3164",
    ]
)


def canonical_fields(raw: Any) -> Fields:
    """The canonical form of a customer from parsed JSON.

    Ignores the fields that the server sets, so that a client may send back what it got. Raises
    ValidationError with one entry per wrong field, but with at most ERRORS_MAX unknown fields.
    """
    return Fields(**_checked(raw, EDITABLE))


def _checked(raw: Any, names: Iterable[str]) -> dict[str, Any]:
    """The canonical form of these fields of a body. Raises ValidationError with all errors at once."""
    if not isinstance(raw, dict):
        raise ValidationError([FieldError("", "not_an_object", "the body must be a JSON object")])
    errors = unknown_fields(raw, _KNOWN, _UNKNOWN)
    found: dict[str, Any] = {}
    for field in names:
        try:
            found[field] = _CHECKS[field](raw.get(field))
        except _Refused as refused:
            errors.append(FieldError(refused.field or field, refused.code, str(refused)))
    if errors:
        raise ValidationError(errors)
    return found


def canonical_email(text: str) -> str | None:
    """The canonical form of an address; None for an empty one. Raises ValidationError."""
    try:
        return _email(text)
    except _Refused as refused:
        raise ValidationError([FieldError("email", refused.code, str(refused))]) from refused


def merge_patch(fields: Fields, patch: Any) -> Fields:
    """`fields` with an RFC 7396 merge patch applied: null removes, metadata is merged key by key.

    Fields that the patch does not name stay unchanged, even if today's checks would refuse them.
    """
    named = _named(patch)
    if isinstance(patch.get("metadata"), dict):
        named["metadata"] = _merged_metadata(fields.metadata, named["metadata"])
    return replace(fields, **named)


def edited(fields: Fields, body: Any) -> Fields:
    """`fields` with the fields of a body in their place, metadata as a whole; the others stay."""
    return replace(fields, **_named(body))


def _named(body: Any) -> dict[str, Any]:
    return _checked(body, [name for name in EDITABLE if isinstance(body, dict) and name in body])


def _merged_metadata(old: Mapping[str, Scalar], patch: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """`old` with the entries of a patch; null removes a key."""
    merged = {**old, **{key: value for key, value in patch.items() if value is not None}}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
    if len(merged) > max(METADATA_KEYS_MAX, len(old)):
        raise ValidationError([FieldError("metadata", "too_many_keys", _TOO_MANY_KEYS)])
    return merged


class _Refused(ValueError):
    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.field = field


def _trimmed(value: Any, longest: int) -> str:
    """`_text` without invisible characters at its ends; "" if it has no visible character."""
    text = _text(value.strip(_EDGES) if isinstance(value, str) else value, longest).strip(_EDGES)
    return text if _SEEN.search(text) else ""


def _text(value: Any, longest: int, *, lines: bool = False) -> str:
    """NFC text without control, hidden or unencodable characters. Linear in its length."""
    if not isinstance(value, str):
        raise _Refused("not_text", "must be text")
    if len(value) > longest * 4:
        raise _Refused("too_long", f"must have at most {longest} characters")
    if value.isascii() and value.isprintable():
        text = value
    else:
        text = normalized("NFC", value)
        for char in text:
            category = unicodedata.category(char)
            if (category == "Cc" and not (lines and char in "\n\t\r")) or char in _HIDDEN:
                raise _Refused("hidden_character", f"must not hold the hidden character U+{ord(char):04X}")
            if category in ("Cs", "Zl", "Zp") or ord(char) & 0xFFFE == 0xFFFE:
                raise _Refused("bad_character", f"must not hold U+{ord(char):04X}, which is not text")
    if len(text) > longest:
        raise _Refused("too_long", f"must have at most {longest} characters")
    return text


def _name(value: Any) -> str:
    if value is None:
        raise _Refused("required", "is required")
    text = _trimmed(value, NAME_MAX)
    if not text:
        raise _Refused("required", "must have a visible character")
    return text


def _email(value: Any) -> str | None:
    if value is None:
        return None
    text = _trimmed(value, EMAIL_MAX)
    if not text:
        return None
    return _plain_email(text) or _checked_email(text)


def _plain_email(text: str) -> str | None:
    """The library's result for nearly all addresses, at a tenth of its cost; None for any other address.

    The library spends most of its time on the domain, and most customers share a few, which are cached.
    """
    local, _, domain = text.rpartition("@")
    if len(local) > _LOCAL_MAX or not _PLAIN_LOCAL.fullmatch(local) or not domain.isascii():
        return None
    try:
        name = _email_domain(domain)
    except _Refused:
        return None  # `_checked_email` reports the error for the whole address
    return f"{local}@{name}" if name.isascii() else None


@lru_cache(maxsize=4096)
def _email_domain(domain: str) -> str:
    return _checked_email(f"a@{domain}").partition("@")[2]


def _checked_email(text: str) -> str:
    email_validator = _email_validator()
    try:
        return str(email_validator.validate_email(text, check_deliverability=False).normalized)
    except email_validator.EmailNotValidError as exc:
        raise _Refused("invalid_email", f"is not an e-mail address: {exc}") from exc


@cache
def _email_validator() -> Any:
    import email_validator

    # Contact data need not be reachable from here: a@firma.local is an address within a firm.
    email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()
    return email_validator


def _phone(value: Any) -> str | None:
    if value is None:
        return None
    return _trimmed(value, PHONE_MAX) or None


def _metadata(value: Any) -> dict[str, Scalar]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _Refused("not_an_object", "must be a JSON object")
    if len(value) > METADATA_KEYS_MAX:
        raise _Refused("too_many_keys", _TOO_MANY_KEYS)
    found: dict[str, Scalar] = {}
    for raw_key, item in value.items():
        field = f"metadata.{raw_key if isinstance(raw_key, str) else '?'}"
        try:
            key = _text(raw_key, METADATA_KEY_MAX)
            # These have a special meaning in MongoDB and in query strings.
            if not key or key.startswith("$") or "." in key:
                raise _Refused("bad_key", "keys must not be empty, contain a dot or begin with $")
            if not _SEEN.search(key):
                raise _Refused("bad_key", "keys must have a visible character")
            if key in found:
                raise _Refused("duplicate_key", "is there twice")
            found[key] = _metadata_value(item)
        except _Refused as refused:
            raise _Refused(refused.code, str(refused), field) from refused
    return found


def _metadata_value(item: Any) -> Scalar:
    if item is None or isinstance(item, bool):
        return item
    if isinstance(item, str):
        return _text(item, METADATA_VALUE_MAX, lines=True)
    if isinstance(item, int):
        if not -INT64_MAX - 1 <= item <= INT64_MAX:
            raise _Refused("out_of_range", "must fit into 64 bits")
        return item
    if isinstance(item, float):
        if not math.isfinite(item):
            raise _Refused("not_finite", "must be a finite number")
        if isinstance(item, Inexact):
            raise _Refused("not_exact", NOT_EXACT)
        return item
    raise _Refused("not_flat", "must be text, a number, true, false or null")


_CHECKS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "name": _name,
    "email": _email,
    "phone": _phone,
    "metadata": _metadata,
}
