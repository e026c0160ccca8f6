"""What a customer can be found by: folded words, and one term for each metadata entry.

Both databases index exactly these terms and answer from them alone, so both find the same. A word is a run
of letters and digits with case, accents and compatibility forms folded away. A metadata term begins with
`=`, which no word does, so a prefix of a word never meets one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import orjson

from .customer import Scalar
from .marks import normalized

# Longer words are cut, in what is stored as in what is asked: an index key has a limit.
_WORD_MAX: Final = 64
_WORDS: Final = re.compile(r"[^\W_]+")
_ASCII_WORDS: Final = re.compile(r"[a-z0-9]+")  # the same, found faster
_LAST_CHARACTER: Final = 0x10FFFF


def words_of(text: str) -> list[str]:
    """The folded words of a text: `Zoë O'Neil` → `zoe`, `o`, `neil`."""
    words = _ASCII_WORDS.findall(text.lower()) if text.isascii() else _WORDS.findall(_folded(text))
    return [word[:_WORD_MAX] for word in words]


def _folded(text: str) -> str:
    # Twice: folding case can bring up letters that are composed again, as of the final ΐ.
    for _ in range(2):
        text = normalized("NFKD", text.casefold())
    return "".join([char for char in text if char < "\x80" or unicodedata.category(char)[0] != "M"])


def terms_of(name: str, email: str | None, phone: str | None, metadata: Mapping[str, Scalar]) -> list[str]:
    """Everything a customer is found by, sorted, each once."""
    parts = [part for part in (name, email, phone) if part]
    text = " ".join(parts)
    # Each by itself: an address of plain ASCII need not be folded the long way because of the name.
    words = words_of(text) if text.isascii() else [word for part in parts for word in words_of(part)]
    return sorted({*words, *[_entry(key, value) for key, value in metadata.items()]})


def metadata_terms(key: str, text: str) -> list[str]:
    """The terms of a metadata entry that is written `text` in a query: the text, or the number it spells."""
    found = {_entry(key, text)}
    with suppress(orjson.JSONDecodeError):
        value = orjson.loads(text)
        if value is None or isinstance(value, bool | int | float):
            found.add(_entry(key, value))
    return sorted(found)


# Many customers share an entry. Typed: 1, 1.0 and true are one key of a dict, and three values.
def _entry(key: str, value: Any) -> str:
    if isinstance(value, dict | list):  # of a foreign producer's event; ours are flat
        return _cached_entry.__wrapped__(key, value)
    return _cached_entry(key, value)


@lru_cache(8192, typed=True)
def _cached_entry(key: str, value: Scalar) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)  # 5.0 and 5 are one number
    digest = blake2b(orjson.dumps([key, value]), digest_size=9)
    return "=" + digest.hexdigest()


def after_prefix(prefix: str) -> str | None:
    """The first text, by code points, after all that begin with `prefix`; None where there is none."""
    while prefix:
        code = ord(prefix[-1])
        if code < _LAST_CHARACTER:
            following = 0xE000 if code == 0xD7FF else code + 1  # surrogates are no characters
            return prefix[:-1] + chr(following)
        prefix = prefix[:-1]
    return None
