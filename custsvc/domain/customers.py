"""The customer: pure data and its one canonical form.

Two databases can hold byte-identical copies only if there is one way to write a customer down. That way is
`encode()`: fixed field order, no spaces, UTC times in whole milliseconds, NFC text. A write encodes once;
GET bodies, events, copies and `verify` pass those bytes on untouched.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any, Final

import orjson

from ..errors import FieldError, ValidationError, unknown_fields
from .marks import normalized

INT64_MAX = 2**63 - 1

Scalar = str | int | float | bool | None

NAME_MAX = 400
EMAIL_MAX = 254
_LOCAL_MAX = 64
_PLAIN_LOCAL = re.compile(r"[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*")
PHONE_MAX = 50
METADATA_KEYS_MAX = 50
METADATA_KEY_MAX = 40
METADATA_VALUE_MAX = 500

# What a caller may set, in canonical order; everything else about a customer is the server's.
EDITABLE = ("name", "email", "phone", "metadata")
SERVER_OWNED = ("id", "version", "deleted", "created_on", "created_by", "updated_on", "updated_by")
_KNOWN = frozenset((*EDITABLE, *SERVER_OWNED))
_TOO_MANY_KEYS = f"must have at most {METADATA_KEYS_MAX} keys"
_UNKNOWN = f"is not a field of a customer ({', '.join(EDITABLE)})"

# What no reader sees: Unicode's Default_Ignorable_Code_Point, and two signs that are drawn as nothing.
_SEEN: Final = re.compile(
    "[^\\s\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# Marks that reorder or hide text: they make one customer look like another.
_HIDDEN = frozenset(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200B, 0x2060, 0xFEFF)))


def same_json(a: Any, b: Any) -> bool:
    """Whether two values are written alike. Python's == takes 1, 1.0 and true for one value."""
    try:
        return orjson.dumps(a) == orjson.dumps(b)
    except TypeError:
        return False  # what cannot be written, a number too long or half a character, is not stored anywhere


# What a copied value has around it: white space and marks. No joiners: some scripts end words in them.
_EDGES: Final = "".join(
    [
        *(chr(code) for code in range(0x3001) if chr(code).isspace()),
        *_HIDDEN,
        *"\xad\u061c\u180e\u200e\u200f\u2800\u3164",
    ]
)


@dataclass(frozen=True, slots=True, eq=False)
class Fields:
    """What a caller says about a customer, already in canonical form (`canonical_fields` makes it).

    Two are equal where their canonical bytes are.
    """

    name: str
    email: str | None = None
    phone: str | None = None
    metadata: Mapping[str, Scalar] = ()  # type: ignore[assignment]

    def __post_init__(self) -> None:
        object.__setattr__(self, "metadata", dict(sorted(dict(self.metadata).items())))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fields) and not self.differing(other)

    def differing(self, other: Fields) -> list[str]:
        """The names of the fields that are not the same in both, in canonical order."""
        names = [name for name in ("name", "email", "phone") if getattr(self, name) != getattr(other, name)]
        return names if same_json(self.metadata, other.metadata) else [*names, "metadata"]


@dataclass(frozen=True, slots=True)
class Customer:
    """One customer at one version. Times are aware, UTC, whole milliseconds."""

    id: int
    fields: Fields
    deleted: bool
    version: int
    created_on: dt.datetime
    created_by: str
    updated_on: dt.datetime
    updated_by: str

    def __post_init__(self) -> None:
        if self.created_on.tzinfo is not dt.UTC or self.updated_on.tzinfo is not dt.UTC:
            raise ValueError(f"customer {self.id}: times must be UTC")

    def encode(self) -> bytes:
        """The canonical JSON of this customer."""
        f = self.fields
        return orjson.dumps(
            {
                "id": self.id,
                "name": f.name,
                "email": f.email,
                "phone": f.phone,
                "metadata": f.metadata,
                "deleted": self.deleted,
                "version": self.version,
                "created_on": format_time(self.created_on),
                "created_by": self.created_by,
                "updated_on": format_time(self.updated_on),
                "updated_by": self.updated_by,
            }
        )

    @classmethod
    def decode(cls, doc: bytes | str) -> Customer:
        """The customer of its canonical JSON. Only for documents of our own stores: nothing is checked."""
        d = orjson.loads(doc)
        return cls(
            id=d["id"],
            fields=Fields(d["name"], d["email"], d["phone"], d["metadata"]),
            deleted=d["deleted"],
            version=d["version"],
            created_on=parse_time(d["created_on"]),
            created_by=d["created_by"],
            updated_on=parse_time(d["updated_on"]),
            updated_by=d["updated_by"],
        )

    def changed_to(self, *, fields: Fields, deleted: bool, now: dt.datetime, by: str) -> Customer:
        """The next version of this customer. `updated_on` never goes back, whatever the clock says."""
        return replace(
            self,
            fields=fields,
            deleted=deleted,
            version=self.version + 1,
            updated_on=max(now, self.updated_on),
            updated_by=by,
        )


@dataclass(frozen=True, slots=True)
class Stored:
    """A customer as a store holds it: the canonical bytes, and what is asked most of them.

    `hint` is the store's own note on the row (MongoDB's hybrid clock); callers hand it back untouched.
    """

    id: int
    version: int
    deleted: bool
    doc: bytes
    hint: Any = None

    def customer(self) -> Customer:
        return Customer.decode(self.doc)


def utc_now() -> dt.datetime:
    """Now, in the whole milliseconds that both databases can hold."""
    now = dt.datetime.now(dt.UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def format_time(time: dt.datetime) -> str:
    """`2026-11-23T20:40:00.123Z`; sorts as text as it does as time."""
    return time.isoformat(timespec="milliseconds")[:-6] + "Z"


def parse_time(text: str) -> dt.datetime:
    """The time that `format_time` wrote. Raises ValueError for anything else."""
    if len(text) != 24 or text[-1] != "Z":
        raise ValueError(f"{text!r} is not a time like 2026-11-23T20:40:00.123Z")
    return dt.datetime.fromisoformat(text[:-1]).replace(tzinfo=dt.UTC)


# -- canonical form of what callers send -----------------------------------------------------------------


def canonical_fields(raw: Any) -> Fields:
    """The canonical form of a customer that somebody sent, as parsed JSON.

    The server's own fields are ignored, so that a client may send back what it got. Raises ValidationError
    with one entry per wrong field; of unknown ones not more than anybody reads.
    """
    return Fields(**_checked(raw, EDITABLE))


def _checked(raw: Any, names: Iterable[str]) -> dict[str, Any]:
    """The canonical form of these fields of a body; all that is wrong with the body at once."""
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
    """An address as it is stored; None for an empty one. Raises ValidationError."""
    try:
        return _email(text)
    except _Refused as refused:
        raise ValidationError([FieldError("email", refused.code, str(refused))]) from refused


def email_key(address: str) -> str:
    """What addresses that differ in nothing but case have in common.

    Letter by letter, so ß and ss are two addresses; those of the Latin, Greek, Cyrillic and Armenian scripts,
    whose cases both databases know. PostgreSQL's function `custsvc_email_key` is the same.
    """
    return address.lower() if address.isascii() else address.translate(_small_letters())


@cache
def _small_letters() -> dict[int, str]:
    codes = (*range(0x41, 0x5B), *range(0x80, 0x590), *range(0x1E00, 0x2000), *range(0xFF21, 0xFF3B))
    small = {code: _small(chr(code)) for code in codes}
    return {code: letter for code, letter in small.items() if letter and letter != chr(code)}


def _small(char: str) -> str:
    """The letter's simple case folding; none where that is no letter, or one of ASCII for ſ."""
    folded = char.casefold() if len(char.casefold()) == 1 else char.lower()
    is_other = len(folded) != 1 or unicodedata.category(char) == "Mn" or char in "ſẛ"
    return "" if is_other else folded


def merge_patch(fields: Fields, patch: Any) -> Fields:
    """`fields` with an RFC 7396 merge patch applied: null removes, metadata is merged key by key.

    What the patch does not name stays as it is stored, also where it would no longer be taken.
    """
    named = _named(patch)
    if isinstance(patch.get("metadata"), dict):
        named["metadata"] = _merged_metadata(fields.metadata, named["metadata"])
    return replace(fields, **named)


def edited(fields: Fields, body: Any) -> Fields:
    """`fields` with those that a body names in their place, metadata as a whole; the others stay."""
    return replace(fields, **_named(body))


def _named(body: Any) -> dict[str, Any]:
    return _checked(body, [name for name in EDITABLE if isinstance(body, dict) and name in body])


def _merged_metadata(old: Mapping[str, Scalar], patch: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """`old` with the entries of a patch: null removes its own key, and nothing else."""
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
    """Text as `_text` takes it, without what nobody sees around it; empty where all of it cannot be seen."""
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
        raise _Refused("required", "must hold something that can be seen")
    return text


def _email(value: Any) -> str | None:
    if value is None:
        return None
    text = _trimmed(value, EMAIL_MAX)
    if not text:
        return None
    return _plain_email(text) or _checked_email(text)


def _plain_email(text: str) -> str | None:
    """What the library makes of nearly all addresses, at a tenth of the price; None for any other.

    It spends most of its time on the domain, and most customers have one of a few.
    """
    local, _, domain = text.rpartition("@")
    if len(local) > _LOCAL_MAX or not _PLAIN_LOCAL.fullmatch(local) or not domain.isascii():
        return None
    try:
        name = _email_domain(domain)
    except _Refused:
        return None  # what is wrong is said of the whole address
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

    # Contact data, not a promise that mail arrives: a@firma.local is an address within a firm.
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
            # MongoDB and query strings both give these a meaning of their own.
            if not key or key.startswith("$") or "." in key:
                raise _Refused("bad_key", "keys must not be empty, hold a dot or begin with $")
            if not _SEEN.search(key):
                raise _Refused("bad_key", "keys must hold something that can be seen")
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
        return item
    raise _Refused("not_flat", "must be text, a number, true, false or null")


_CHECKS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "name": _name,
    "email": _email,
    "phone": _phone,
    "metadata": _metadata,
}
