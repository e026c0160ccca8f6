"""Customers as vCards of version 3.0, which mail programs and phones read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from .vcards import ADDRESS, ENTRIES

_LINE_MAX: Final = 75
_ESCAPED: Final = re.compile(r"[\\,;]")


def card(customer: dict[str, Any]) -> bytes:
    """A customer as a card. Entries of the metadata that no property fits are left out."""
    lines = ("BEGIN:VCARD", "VERSION:3.0", *_properties(customer), "END:VCARD")
    return b"".join(_folded(line) for line in lines)


def written(name: str, text: str) -> bytes:
    """A property with this text, as lines of a card."""
    return _folded(f"{name}:{_text(text)}")


def _properties(customer: dict[str, Any]) -> Iterator[str]:
    metadata = {key: str(value) for key, value in customer["metadata"].items() if value not in (None, "")}
    name = _text(customer["name"])
    yield f"N:{name};;;;"
    yield f"FN:{name}"
    for field, word in (("email", "EMAIL"), ("phone", "TEL")):
        if customer[field]:
            yield f"{word};TYPE=PREF:{_text(customer[field])}"
        for number in range(2, 10):
            if (other := metadata.get(f"{field} {number}")) is not None:
                yield f"{word}:{_text(other)}"
    for word, key in ENTRIES.items():
        if key in metadata:
            yield f"{word}:{_text(metadata[key])}"
    if not metadata.keys().isdisjoint(filter(None, ADDRESS)):
        yield "ADR:" + ";".join(_text(metadata.get(key, "")) if key else "" for key in ADDRESS)


def _text(value: str) -> str:
    text = _ESCAPED.sub(lambda found: "\\" + found[0], value)
    return re.sub(r"\r\n|\r|\n", r"\\n", text)


def _folded(line: str) -> bytes:
    """A line, broken after 75 bytes at most, and never within a character."""
    pieces: list[str] = []
    piece = ""
    for char in line:
        if len((piece + char).encode()) > _LINE_MAX - bool(pieces):
            pieces.append(piece)
            piece = ""
        piece += char
    return "\r\n ".join([*pieces, piece]).encode() + b"\r\n"
