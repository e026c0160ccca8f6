"""The key by which addresses are compared."""

from __future__ import annotations

import unicodedata
from functools import cache


def email_key(address: str) -> str:
    """A key that is equal for addresses that differ only in case.

    Maps single letters, so ß and ss stay different; only Latin, Greek, Cyrillic and Armenian letters, whose
    cases both databases know. PostgreSQL's function `custsvc_email_key` does the same.
    """
    return address.lower() if address.isascii() else address.translate(_small_letters())


@cache
def _small_letters() -> dict[int, str]:
    codes = (*range(0x41, 0x5B), *range(0x80, 0x590), *range(0x1E00, 0x2000), *range(0xFF21, 0xFF3B))
    small = {code: _small(chr(code)) for code in codes}
    return {code: letter for code, letter in small.items() if letter and letter != chr(code)}


def _small(char: str) -> str:
    """The letter's simple case folding; "" if that is not a letter, and for ſ, which would become ASCII."""
    folded = char.casefold() if len(char.casefold()) == 1 else char.lower()
    is_other = len(folded) != 1 or unicodedata.category(char) == "Mn" or char in "ſẛ"
    return "" if is_other else folded
