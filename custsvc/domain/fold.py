"""Folds text for search: removes case, accents and other differences in spelling.

The rules are Unicode's: its algorithms for compatibility forms and case, then a table made from its collation
weights (`fold_table`). So ø folds to o and ß to ss; optional points of Hebrew and Arabic are removed, vowels
of Indian scripts stay. Both databases store the folded text, so their results do not depend on their version
or locale.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Final

from . import fold_table
from .marks import normalized

# Stored data depends on it: a change of the table, the terms or the name keys needs a new version and a
# migration that recomputes them for all customers.
VERSION: Final = 3

_KATAKANA: Final = (0x30A1, 0x30F6)
_TO_HIRAGANA: Final = 0x60


def folded(text: str) -> str:
    """The text without differences of case, accents, width and kinds of kana, apostrophe and hyphen.

    Apostrophes become `'`, hyphens `-`. Folding is idempotent.
    """
    if text.isascii():
        return text.lower().replace("`", "'")
    table = _table()
    # Before NFKD, which turns an acute accent that stands alone into a space; here it is an apostrophe.
    text = text.translate(table)
    # Twice, since case folding can yield composed letters, such as ΐ.
    for _ in range(2):
        text = normalized("NFKD", text.casefold())
    # NFC, so that a Hangul syllable, or a kana with its voicing mark, is one character.
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
    # Format characters, which only affect how their neighbours are displayed.
    table |= dict.fromkeys(
        (0xAD, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF)
    )
    return table


def _codes(text: str) -> Iterator[int]:
    return (int(code, 16) for code in text.split())


@cache
def marks() -> str:
    """The marks that are parts of letters, for a character class of a regular expression."""
    ranges = (each.partition("-") for each in fold_table.KEPT.split())
    return "".join(f"{chr(int(first, 16))}-{chr(int(last, 16))}" for first, _, last in ranges)
