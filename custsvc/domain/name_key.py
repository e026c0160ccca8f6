"""Where a name stands in a list that is sorted by name: a text that both databases compare byte by byte.

As in Unicode's collation, base letters come first: Émile stands beside Emil. What `fold` leaves out decides
only between names that are alike without it, accents before case. Spaces and signs stand before digits and
letters, and scripts in the order of their code points. It is no country's own order.

A key is bounded, since PostgreSQL takes no entry above 2,704 bytes into an index. Names up to 250 characters
are in it as a whole.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from .fold import folded, marks

# Below everything that a folded name holds, so that what is shorter stands first. No stored name holds it.
SEPARATOR: Final = "\x01"
# Bytes of a key's parts; a character has up to four.
_PART_MAX: Final = 1000
_ACCENTS_MAX: Final = 600
# ASCII's signs from after the digits on are moved to before them, other signs are marked to stand there.
_LATE_SIGNS: Final = str.maketrans({sign: chr(14 + at) for at, sign in enumerate("[\\]^_{|}~")})
_SIGN: Final = "\x17"


def name_key(name: str) -> str:
    """The text by which a name sorts. What `name_prefix` makes of a name's beginning begins it."""
    plain, small = name_prefix(name), name.lower()
    accents = "" if small == plain else _cut(small, _ACCENTS_MAX)
    return f"{plain}{SEPARATOR}{accents}{SEPARATOR}{_cut(name)}"


def name_prefix(text: str) -> str:
    """How the keys of names begin that begin with `text`, case and accents aside.

    Empty where nothing of the text is compared, as for an accent alone.
    """
    plain = folded(text).translate(_LATE_SIGNS)
    return _cut(plain if plain.isascii() else _other_signs().sub(rf"{_SIGN}\g<0>", plain))


def is_name_key(key: object) -> bool:
    """Whether this is a key, and not a name as it is written."""
    return isinstance(key, str) and (not key or SEPARATOR in key)


@cache
def _other_signs() -> re.Pattern[str]:
    return re.compile(f"[^\\w\\x00-\\x7f{marks()}]")


def _cut(text: str, most: int = _PART_MAX) -> str:
    if len(text) * 4 <= most:
        return text
    return text.encode()[:most].decode(errors="ignore")
