"""The values in the published shapes: ids, names, addresses, times, and the patterns that they match."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.json_schema import GenerateJsonSchema

from ...domain.customers import (
    EMAIL_MAX,
    INT64_MAX,
    METADATA_KEY_MAX,
    METADATA_KEYS_MAX,
    METADATA_VALUE_MAX,
    NAME_MAX,
    PHONE_MAX,
)

# Text without control, hidden and unencodable characters, as a regular expression of JSON Schema.
# The last two of each plane beyond the first are no characters; a pattern can only hold them as they are.
_NO_CHARACTERS: Final = "".join(chr(plane << 16 | end) for plane in range(1, 17) for end in (0xFFFE, 0xFFFF))
_NO_TEXT: Final = (
    r"\u0000-\u001f\u007f-\u009f\u200b\u2028-\u202e\u2060\u2066-\u2069\ufeff\ufffe\uffff" + _NO_CHARACTERS
)
_LINES: Final = _NO_TEXT.replace(r"\u0000-\u001f", r"\u0000-\u0008\u000b\u000c\u000e-\u001f")
_TEXT_PATTERN: Final = rf"^[^{_NO_TEXT}]*$"
# Invisible characters, then anything from the first visible one on: so a validator reads it once.
_UNSEEN: Final = (
    r" \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    r"\u200c-\u200f\u2061-\u2065\u206a-\u206f\u2800\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8"
)
_SEEN: Final = rf"[^\s{_UNSEEN}{_NO_TEXT}"
NAME_PATTERN: Final = rf"^[{_UNSEEN}]*{_SEEN}][^{_NO_TEXT}]*$"
_VALUE_PATTERN: Final = rf"^[^{_LINES}]*$"
_KEY_PATTERN: Final = rf"^([{_UNSEEN}]+{_SEEN}.]|{_SEEN}.$])[^.{_NO_TEXT}]*$"
_TIME_PATTERN: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$"


def described(schema: dict[str, Any]) -> WithJsonSchema:
    """The schema of a type, in place of the one that pydantic would make."""
    return WithJsonSchema(schema)


def _metadata(values: list[str]) -> dict[str, Any]:
    text = {"type": "string", "maxLength": METADATA_VALUE_MAX, "pattern": _VALUE_PATTERN}
    number = {"type": "integer", "minimum": -INT64_MAX - 1, "maximum": INT64_MAX}
    of = {"string": text, "integer": number}
    return {
        "type": "object",
        "description": (
            "A flat object of your own: text, numbers, true, false and null. A number that neither a 64-bit "
            "integer nor a 64-bit float keeps as written is refused; write it as text."
        ),
        "maxProperties": METADATA_KEYS_MAX,
        "propertyNames": {"maxLength": METADATA_KEY_MAX, "minLength": 1, "pattern": _KEY_PATTERN},
        "additionalProperties": {"anyOf": [of.get(name, {"type": name}) for name in values]},
    }


# A number with a fraction may be any that a double can hold; a whole one must fit into 64 bits.
_METADATA: Final = _metadata(["string", "integer", "boolean", "null"])
_METADATA["additionalProperties"]["anyOf"].append(
    {"type": "number", "minimum": -float(2**63), "maximum": float(2**63 - 1024)}
)

Id = Annotated[int, Field(ge=1, le=INT64_MAX, examples=[7])]
Version = Annotated[
    int, Field(ge=1, le=INT64_MAX, description="1, 2, 3 …; rises by one with each change; the entity tag.")
]
Name = Annotated[
    str, Field(min_length=1, max_length=NAME_MAX, pattern=NAME_PATTERN, examples=["Ada Lovelace"])
]
Email = Annotated[
    str,
    described(
        {
            "type": "string",
            "anyOf": [{"format": "email"}, {"pattern": r"^ *$"}],
            "maxLength": EMAIL_MAX,
            "description": "An address; a blank one is null.",
            "examples": ["ada@example.org"],
        }
    ),
]
Phone = Annotated[str, Field(max_length=PHONE_MAX, pattern=_TEXT_PATTERN, examples=["+44 20 7946 0000"])]
Metadata = Annotated[dict[str, Any], described(_METADATA)]
Time = Annotated[
    datetime,
    described(
        {
            "type": "string",
            "format": "date-time",
            "pattern": _TIME_PATTERN,
            "description": "UTC, in whole milliseconds.",
            "examples": ["2026-11-23T20:40:00.123Z"],
        }
    ),
]
Actor = Annotated[str, Field(description="The name of the API key that made the change.")]


class OurWords(GenerateJsonSchema):
    """A JSON Schema without the titles that pydantic makes up out of the names of fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - the method is pydantic's
        return False


class Closed(BaseModel):
    """An object without members beside its own."""

    model_config = ConfigDict(extra="forbid")
