"""Sort keys of names, which both databases compare byte by byte.

As in Unicode's collation, base letters are compared first: Émile is next to Emil. Accents, then case, decide
only between names with equal base letters. Spaces and signs sort before digits and letters, scripts by their
code points. It is not the order of any particular language.

Keys are bounded, since a PostgreSQL index entry has at most 2,704 bytes. Names up to 250 characters are
compared in full.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from .fold import folded, marks

# Below every character of a folded name, so that shorter names sort first. No stored name contains it.
SEPARATOR: Final = "\x01"
# Bytes of a key's parts; a character has up to four.
_PART_MAX: Final = 1000
_ACCENTS_MAX: Final = 600
# ASCII signs above the digits move below them; `_SIGN` before any other sign moves it there too.
_LATE_SIGNS: Final = str.maketrans({sign: chr(14 + at) for at, sign in enumerate("[\\]^_{|}~")})
_SIGN: Final = "\x17"


def name_key(name: str) -> str:
    """The sort key of a name. It begins with `name_prefix` of each beginning of the name."""
    plain, small = name_prefix(name), name.lower()
    accents = "" if small == plain else _cut(small, _ACCENTS_MAX)
    return f"{plain}{SEPARATOR}{accents}{SEPARATOR}{_cut(name)}"


def name_prefix(text: str) -> str:
    """The beginning of the keys of all names that begin with `text`, ignoring case and accents.

    Empty if folding removes all of the text, such as a single accent.
    """
    plain = folded(text).translate(_LATE_SIGNS)
    return _cut(plain if plain.isascii() else _other_signs().sub(rf"{_SIGN}\g<0>", plain))


def is_name_key(key: object) -> bool:
    """Whether this is a key, not a name."""
    return isinstance(key, str) and (not key or SEPARATOR in key)


@cache
def _other_signs() -> re.Pattern[str]:
    return re.compile(f"[^\\w\\x00-\\x7f{marks()}]")


def _cut(text: str, most: int = _PART_MAX) -> str:
    if len(text) * 4 <= most:
        return text
    return text.encode()[:most].decode(errors="ignore")
