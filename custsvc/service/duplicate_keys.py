"""The keys by which a customer's duplicates are looked up, so that not all are compared with all.

Each way in which a duplicate may differ leaves at least one key alike: another name keeps the address or the
number, a misspelt address keeps the name, a misspelt name with neither keeps its other word, if that is rare.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..domain.likeness import SHARED_BOXES, Traits
from ..domain.name_key import SEPARATOR, name_prefix
from ..domain.phone import number_prefixes
from ..ports.duplicates import Bearer, Key, Kind

LIMITS: Final[dict[Kind, int]] = {"email": 20, "mailbox": 20, "number": 20, "name": 50, "word": 20}
"""How many customers with one key are compared. Of the words only those count that fewer have."""

# Many customers share shorter words and parts of addresses.
_WORD_FROM: Final = 2
_LOCAL_FROM: Final = 4


def keys_of(bearer: Bearer, its: Traits) -> set[Key]:
    """The keys of a customer, which need not be stored yet."""
    keys = {Key("word", word) for word in its.words if len(word) >= _WORD_FROM}
    keys.update(Key("name", name) for name in _names(bearer.name, its.words))
    keys.update(Key("number", prefix) for prefix in number_prefixes(its.phone))
    if its.email:
        keys |= {Key("email", its.email), Key("email", f"{its.box}@{its.domain}")}
        if len(its.box) >= _LOCAL_FROM and its.box not in SHARED_BOXES:
            keys |= {Key("mailbox", f"{its.box}{sign}") for sign in "@+"}
    return keys


def _names(name: str, words: tuple[str, ...]) -> Iterator[str]:
    """Beginnings of the keys of names that say the same: in another order, abbreviated, with more behind."""
    whole = name_prefix(name)
    if not whole:
        return
    yield whole + SEPARATOR
    yield whole + " "
    for text in _variants(words):
        yield name_prefix(text) + SEPARATOR


def _variants(words: tuple[str, ...]) -> Iterator[str]:
    yield " ".join(words)
    if len(words) < 2:
        return
    *given, family = words
    yield " ".join((family, *given))
    yield f"{family}, {' '.join(given)}"
    first, *others = words
    for rest in {(*others,), (family,)}:
        yield " ".join((first, *rest))
        yield " ".join((first[0], *rest))
        yield f"{first[0]}. {' '.join(rest)}"
