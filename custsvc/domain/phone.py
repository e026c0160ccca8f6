"""Search terms of telephone numbers: their digits, however grouped, from each group on.

A number may be written with or without its country code, with or without the trunk prefix 0. The stored terms
let each way of writing find the others; the last four or more digits find the number too.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

# First characters of terms that no word begins with: reversed digits; a number without its country code.
_BACKWARDS: Final = "#"
_NATIONAL: Final = "~"
_LONGEST: Final = 32
_GROUPS_MAX: Final = 12
_SHORTEST: Final = 4
# With fewer digits the text may be part of a number; with at least this many, 00 begins a country code.
_WHOLE: Final = 7
# Country codes of one and two digits (ITU-T E.164); all others have three.
_CODES: Final = frozenset(
    "1 7 20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66 "
    "81 82 84 86 90 91 92 93 94 95 98".split()
)
_TRUNK: Final = re.compile(r"\(\s*0\s*\)")
_DIGITS: Final = re.compile(r"[0-9]+")
_EXTENSION: Final = re.compile(r"(?:extension|extn|ext|x|#)[^\w#]*+(?=[0-9]{1,6}\W*+$)")


class _Number(NamedTuple):
    """The groups of a number without the international prefix (+ or 00), and whether it had one."""

    groups: list[str]
    abroad: bool

    def national(self, digits: str) -> str:
        """The digits without the country code or trunk prefix."""
        if not self.abroad:
            return digits.lstrip("0")
        return digits[1 if digits[:1] in _CODES else 2 if digits[:2] in _CODES else 3 :]


def _read(text: str) -> _Number:
    groups = _DIGITS.findall(text)
    plus = text.find("+")
    abroad = plus >= 0 and not _DIGITS.search(text, 0, plus)
    if not groups or not (abroad or (groups[0].startswith("00") and len("".join(groups)) >= _WHOLE)):
        return _Number(groups, abroad)
    if "(" in text:
        groups = _DIGITS.findall(_TRUNK.sub(" ", text))
    if not abroad:
        groups[0] = groups[0][2:]
    return _Number(groups, abroad=True)


def phone_terms(text: str) -> set[str]:
    """The terms of a folded number: its digits from each group on, and reversed."""
    number = _read(text)
    digits = "".join(number.groups)
    national = number.national(digits)
    terms, at = {national[:_LONGEST]}, 0
    for group in number.groups[:_GROUPS_MAX]:
        terms.add(digits[at : at + _LONGEST])
        at += len(group)
    if len(digits) >= _SHORTEST:
        terms.add(_BACKWARDS + digits[: -_LONGEST - 1 : -1])
        if not number.abroad:
            terms.add(_NATIONAL + national[:_LONGEST])
    terms.discard("")
    return terms


def phone_alternatives(text: str) -> list[tuple[str, ...]]:
    """The ways in which a number typed like this may be stored. It matches if all terms of one way match."""
    number = _read(text)
    digits = "".join(number.groups)
    national = number.national(digits)
    ways = [tuple(_DIGITS.findall(text))] if len(digits) < _WHOLE else []
    if number.abroad:
        ways.append((digits[:_LONGEST],))
        if len(national) >= _SHORTEST:
            ways.append((_NATIONAL + national[:_LONGEST],))
    elif len(national) >= _SHORTEST:
        ways += [(national[:_LONGEST],), (_BACKWARDS + national[: -_LONGEST - 1 : -1],)]
    if not number.abroad and _SHORTEST <= len(digits) < _WHOLE:
        ways += [(digits,), (_BACKWARDS + digits[::-1],)]
    return list(dict.fromkeys(ways)) or [tuple(number.groups)]


def national_digits(text: str) -> str:
    """The digits of a folded number within its country, without zeros in front; empty where it has none.

    An extension is left out: `+1 555 618 3774 ext. 12` is the line of everybody there.
    """
    number = _read(_EXTENSION.split(text, maxsplit=1)[0])
    return number.national("".join(number.groups)).lstrip("0")


def number_prefixes(national: str) -> tuple[str, ...]:
    """What terms begin with that are of the number with these `national_digits`, however it is written.

    The last digits find it with any prefix, the first ones with an extension. Numbers too short to be one
    line alone have none.
    """
    if len(national) < _WHOLE:
        return ()
    return (_BACKWARDS + national[: -_WHOLE - 1 : -1], national[:_LONGEST])
