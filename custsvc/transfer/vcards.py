"""vCards of any version (RFC 6350, 2426, and 2.1): each card is a row.

The first address and number, or those marked as preferred, are the customer's; what else a card says goes
into the metadata. Photos and the like are skipped, and the report names them. A broken card is an error of
its row.
"""

from __future__ import annotations

import quopri
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Final

from .encodings import UTF_8, known
from .lines import Lines
from .record import plain_address, undecodable
from .row import METADATA, Row, RowError, Tally, bad_file, shown

_PROPERTY: Final = re.compile(r'(?:[\w-]+\.)?([\w-]+)((?:;(?:[^:;"]|"[^"]*")*)*):(.*)', re.DOTALL)
_PARAMETER: Final = re.compile(r';((?:[^;"]|"[^"]*")*)')
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_SPLIT: Final = re.compile(r"(?<!\\)((?:\\\\)*);")
_IN_BASE64: Final = re.compile(r"[^:]*;(ENCODING=)?(BASE64|B)[;:]", re.IGNORECASE)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]+={0,2}\s*")
# Bytes that are not of the file's encoding.
_BROKEN: Final = re.compile("[\udc80-\udcff]")
# Properties that become an entry of the metadata, with its key.
ENTRIES: Final = {
    "ORG": "company",
    "TITLE": "title",
    "ROLE": "role",
    "NOTE": "note",
    "URL": "url",
    "BDAY": "birthday",
    "NICKNAME": "nickname",
    "CATEGORIES": "categories",
}
ADDRESS: Final = ("", "", "street", "city", "region", "postal_code", "country")
BEGIN: Final = b"BEGIN:VCARD"
END: Final = b"END:VCARD"
WRONG: Final = "X-CUSTSVC-WRONG"
"""The property of a card that is given back, which says what is wrong with it."""
_FRAME: Final = ("BEGIN", "END", "VERSION", "PRODID", "REV", "UID", WRONG)


@dataclass(frozen=True, slots=True)
class _Property:
    name: str
    types: frozenset[str]
    value: str

    @property
    def text(self) -> str:
        return _plain(self.value)

    @property
    def parts(self) -> list[str]:
        """The components of a structured value."""
        pieces = _SPLIT.split(self.value)
        texts = [text + slashes for text, slashes in zip(pieces[::2], [*pieces[1::2], ""], strict=True)]
        return [_plain(text) for text in texts]


@dataclass(slots=True)
class Cards:
    """The cards of a file as rows. `properties` maps each property that was met to its field."""

    source: IO[bytes]
    tally: Tally
    encoding: str = UTF_8
    properties: dict[str, str] = field(default_factory=dict)

    def rows(self) -> Iterator[Row]:
        """Raises ValidationError if the file ends within a card."""
        for number, lines in pieces(self.source, self.tally):
            texts = [line.decode("utf-8", "surrogateescape").rstrip("\r\n") for line in lines]
            if len(texts) > 1:
                yield self._row(number, list(_own(texts)))
            else:
                message = "stands outside of a card; a card begins with BEGIN:VCARD"
                yield Row(number, {}, RowError("", "bad_vcard", message, shown(texts[0])))

    def _row(self, number: int, card: Sequence[str]) -> Row:
        properties: list[_Property] = []
        if (broken := next((line for line in card if _BROKEN.search(line)), None)) is not None:
            return Row(number, {}, undecodable(self.encoding, broken))
        for line in _unfolded(card):
            found = _property(line)
            if found is None:
                return Row(
                    number, {}, RowError("", "bad_vcard", "has a line that is no property", shown(line))
                )
            properties.append(found)
        raw: dict[str, Any] = {}
        self._put(raw, "name", _name(properties), "FN")
        self._contacts(raw, properties, "EMAIL", "email")
        self._contacts(raw, properties, "TEL", "phone")
        for each in properties:
            self._put_entry(raw, each)
        return Row(number, raw)

    def _contacts(self, raw: dict[str, Any], properties: Sequence[_Property], name: str, target: str) -> None:
        """The preferred contact, and the others as entries of the metadata."""
        found = [each for each in properties if each.name == name and each.text.strip()]
        found.sort(key=lambda each: ("PREF" not in each.types, "FAX" in each.types))
        for place, each in enumerate(found):
            text = each.text.strip()
            text = plain_address(text) if name == "EMAIL" else text.removeprefix("tel:")
            self._put(raw, target if place == 0 else f"{METADATA}{target} {place + 1}", text, name)

    def _put_entry(self, raw: dict[str, Any], each: _Property) -> None:
        if each.name == "ADR":
            for key, part in zip(ADDRESS, each.parts, strict=False):
                if key and part and METADATA + key not in raw:
                    self._put(raw, METADATA + key, part, "ADR")
        elif each.name in ENTRIES and METADATA + ENTRIES[each.name] not in raw:
            text = ", ".join(filter(None, each.parts)) if each.name == "ORG" else each.text
            self._put(raw, METADATA + ENTRIES[each.name], text.strip(), each.name)
        elif each.name not in (*_FRAME, "FN", "N", "EMAIL", "TEL"):
            self.properties.setdefault(each.name, "")

    def _put(self, raw: dict[str, Any], name: str, value: str | None, source: str) -> None:
        if value:
            raw[name] = value
            if not name.startswith(METADATA) or source in ENTRIES:
                self.properties.setdefault(source, name)


def pieces(source: IO[bytes], tally: Tally) -> Iterator[tuple[int, list[bytes]]]:
    """The lines of each card, cards within it too, and each line outside of one, with its number.

    Raises ValidationError if the file ends within a card.
    """
    number, card, depth = 0, list[bytes](), 0
    lines = Lines(source)
    for line in lines:
        word = line.strip().upper()
        if not depth and not word:
            tally.empty += 1
            continue
        tally.rows += 1
        number = number if depth else lines.number
        card.append(line)
        depth += (word == BEGIN) - (word == END and depth > 0)
        if not depth:
            yield number, card
            card = []
    if depth:
        raise bad_file("cut_off", f"the file ends within the card of line {number}; send all of it")


def _own(texts: Sequence[str]) -> Iterator[str]:
    """The lines of a card between its first and its last one, without those of cards within it."""
    depth = 0
    for text in texts[1:-1]:
        word = text.strip().upper().encode("utf-8", "surrogateescape")
        depth += (word == BEGIN) - (word == END)
        if not depth and word != END:
            yield text


def _unfolded(lines: Sequence[str]) -> Iterator[str]:
    """The logical lines: a folded one goes on behind a space, or in version 2.1 behind a final `=`.

    Some programs do not fold the lines of a photo. Those are left out, as the photo is.
    """
    whole, is_photo = "", False
    for line in lines:
        if is_photo and _BASE64.fullmatch(line):
            continue
        if whole.endswith("=") and "QUOTED-PRINTABLE" in whole.partition(":")[0].upper():
            whole = whole[:-1] + line
        elif line[:1] in (" ", "\t"):
            whole += line[1:]
        else:
            if whole.strip():
                yield whole
            whole, is_photo = line, bool(_IN_BASE64.match(line))
    if whole.strip():
        yield whole


def _property(line: str) -> _Property | None:
    found = _PROPERTY.fullmatch(line)
    if found is None:
        return None
    types: set[str] = set()
    charset, is_quoted = "utf-8", False
    for parameter in _PARAMETER.findall(found[2]):
        key, sign, value = parameter.upper().replace('"', "").partition("=")
        words = value.split(",") if sign else [key]
        if key == "CHARSET":
            charset = known(value) or charset
        elif "QUOTED-PRINTABLE" in words:
            is_quoted = True
        elif key == "PREF":
            types |= {"PREF"} if value in ("", "1") else set()
        else:
            types |= set(words)
    value = found[3]
    if is_quoted:
        value = quopri.decodestring(value.encode()).decode(charset, "replace")
    return _Property(found[1].upper(), frozenset(types), value)


def _plain(value: str) -> str:
    return _ESCAPED.sub(lambda found: "\n" if found[1] in "nN" else found[1], value)


def _name(properties: Sequence[_Property]) -> str | None:
    for each in properties:
        if each.name == "FN" and each.text.strip():
            return each.text.strip()
    for each in properties:
        if each.name == "N":
            family, given, middle = (*each.parts, "", "", "")[:3]
            if name := " ".join(filter(None, (given, middle, family))).strip():
                return name
    return next((each.text.strip() for each in properties if each.name in ("ORG", "NICKNAME")), None)
