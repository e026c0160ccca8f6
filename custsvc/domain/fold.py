"""Text as it is searched: case, accents, and what is only another way to write the same, folded away.

The rules are Unicode's: compatibility forms and case by its own algorithms, and then a table made from its
collation weights (`fold_table`). So ø is o and ß is ss, points that Hebrew and Arabic leave out are left
out, and a vowel of an Indian script stays. Both databases store what comes out of here, so what they find
does not hang on their version or locale.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Final

from . import fold_table
from .marks import normalized

# Stored data depends on it: a change of the table, the terms or the name keys needs a new version, and a
# migration that stores them again for all customers.
VERSION: Final = 3

_KATAKANA: Final = (0x30A1, 0x30F6)
_TO_HIRAGANA: Final = 0x60


def folded(text: str) -> str:
    """The text with case, accents, width and kinds of kana, apostrophe and hyphen folded away.

    Apostrophes are `'`, hyphens `-`; folding twice changes nothing more.
    """
    if text.isascii():
        return text.lower().replace("`", "'")
    table = _table()
    # Before they are taken apart: an acute accent that stands alone is an apostrophe, not a space.
    text = text.translate(table)
    # Twice: folding case can bring up letters that are composed again, as of the final ΐ.
    for _ in range(2):
        text = normalized("NFKD", text.casefold())
    # Composed again, so that a Hangul syllable, or a kana with its voicing mark, is one character.
    return normalized("NFC", text.translate(table))


@cache
def _table() -> dict[int, str | None]:
    table: dict[int, str | None] = dict.fromkeys(_codes(fold_table.APOSTROPHES), "'")
    table |= dict.fromkeys(_codes(fold_table.HYPHENS), "-")
    for each in fold_table.DROPPED.split():
        first, _, last = each.partition("-")
        table |= dict.fromkeys(range(int(first, 16), int(last, 16) + 1))
    for each in fold_table.LETTERS.split():
        code, _, letters = each.partition("=")
        table[int(code, 16)] = letters
    for zero in _codes(fold_table.ZEROS):
        table |= {zero + number: str(number) for number in range(10)}
    table |= {code: chr(code - _TO_HIRAGANA) for code in range(_KATAKANA[0], _KATAKANA[1] + 1)}
    # Format characters only say how to show what stands beside them.
    table |= dict.fromkeys(
        (0xAD, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF)
    )
    return table


def _codes(text: str) -> Iterator[int]:
    return (int(code, 16) for code in text.split())


@cache
def marks() -> str:
    """The marks that are parts of letters, as they stand in a class of a regular expression."""
    ranges = (each.partition("-") for each in fold_table.KEPT.split())
    return "".join(f"{chr(int(first, 16))}-{chr(int(last, 16))}" for first, _, last in ranges)
