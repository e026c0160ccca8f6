"""The search terms of a customer: folded words, digits of numbers, and one term for each metadata entry.

Both databases index exactly these terms and search only them, so both give the same results: a word of the
query matches the terms that begin with it. A name is therefore stored from each place at which a user may
begin to type: `O'Brien` as `obrien` and `brien`, `Jean-Luc` as `jeanluc` and `luc`, and a name written
without spaces, such as 山田太郎, from each of its characters. `fold` folds the letters.

A metadata term begins with `=`, some terms of a number with `#` and `~`. No word does, so the prefix of a
word never matches one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache, lru_cache
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import orjson

from .customers import Scalar
from .fold import folded, marks
from .marks import normalized
from .phone import phone_alternatives, phone_terms

# Longer words are cut, in stored terms and in queries: an index key has a limit.
_WORD_MAX: Final = 64
_UNSPACED_MAX: Final = 16
# The most places from which one run of letters is stored.
_STARTS_MAX: Final = 64
_LAST_CHARACTER: Final = 0x10FFFF
_ASCII_WORDS: Final = re.compile("[a-z0-9]+")
_ASCII_JOINTS: Final = re.compile("[-'`]")
_ASCII_RUNS: Final = re.compile(r"[a-z0-9]+(?:['-]+[a-z0-9]+)*")
# Scripts without spaces between words; in East Asian ones a space is optional.
_EAST_ASIAN: Final = (
    "\u3005-\u3007\u3041-\u309f\u30fc-\u30ff\u3105-\u312f\u31a0-\u31bf\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff"
)
_OTHER_UNSPACED: Final = "\u0e01-\u0eff\u0f40-\u0fbc\u1000-\u109f\u1780-\u17d3"
_UNSPACED: Final = re.compile(f"[{_EAST_ASIAN}{_OTHER_UNSPACED}]")
_APART: Final = re.compile(f"(?<=[{_EAST_ASIAN}])\\s+(?=[{_EAST_ASIAN}])")
# A number as people write it, with white space around it.
_NUMBER: Final = re.compile(r"(?<!\S)[+(]*[0-9](?:[0-9 ()./+-]*[0-9])?(?!\S)")
_DIGITS: Final = re.compile("[0-9]+")
_DIGITS_ALONE: Final = re.compile("[0-9 ()./+-]*")
_JOINTS: Final = re.compile("['-]+")

Words = tuple[str, ...]


class Asked(NamedTuple):
    """A parsed query.

    A customer matches if each of `words` begins one of its terms, and if for each of `phrases`, which are
    alternatives to write the same, all words of one do. `earlier`: the words for customers whose terms an
    earlier version made, if they differ.
    """

    words: Words = ()
    phrases: tuple[tuple[Words, ...], ...] = ()
    earlier: Words = ()


def words_of(text: str) -> list[str]:
    """The folded words of a text, joined ones apart: `Zoë O'Neil` → `zoe`, `o`, `neil`."""
    return [_cut(part) for run in _runs(folded(text)) for part in _JOINTS.split(run)]


def asked(text: str) -> Asked:
    """Parse a query."""
    plain = folded(text)
    words: set[str] = set()
    phrases: set[tuple[Words, ...]] = set()
    numbers = _NUMBER.findall(plain)
    for number in numbers:
        _add(phone_alternatives(number), words, phrases)
    for run in _runs(_NUMBER.sub(" ", plain)):
        parts = tuple(map(_cut, _JOINTS.split(run)))
        _add([(_cut(_JOINTS.sub("", run)),), parts], words, phrases)
    # The words of an ASCII query without numbers are the same in every version.
    earlier = () if text.isascii() and not numbers else tuple(sorted(set(_earlier_words(text))))
    return Asked(
        tuple(sorted(words)), tuple(sorted(phrases)), () if set(earlier) == words and not phrases else earlier
    )


def _add(alternatives: list[Words], words: set[str], phrases: set[tuple[Words, ...]]) -> None:
    different = tuple(dict.fromkeys(alternatives))
    if len(different) > 1:
        phrases.add(different)
    else:
        words.update(different[0])


def terms_of(name: str, email: str | None, phone: str | None, metadata: Mapping[str, Scalar]) -> list[str]:
    """All terms of a customer, sorted, without duplicates."""
    terms = {_entry(key, value) for key, value in metadata.items()}
    both = f"{name} {email}" if email else name
    if both.isascii() and not _ASCII_JOINTS.search(both):  # a faster way for most customers
        words = _ASCII_WORDS.findall(both.lower())
        terms.update(words if len(both) <= _WORD_MAX else [word[:_WORD_MAX] for word in words])
    else:
        for text in (name, email):
            if text:
                terms.update(_starts(text))
    if phone:
        plain = folded(phone)
        terms |= phone_terms(plain)
        if not _DIGITS_ALONE.fullmatch(plain):
            terms.update(_starts(_DIGITS.sub(" ", plain)))
    return sorted(terms)


def stored_terms(name: str, email: str | None, phone: str | None, doc: str) -> list[str]:
    """`terms_of` a stored customer, even if another program has changed its document."""
    metadata: Any = None
    with suppress(orjson.JSONDecodeError, AttributeError):
        metadata = orjson.loads(doc).get("metadata")
    return terms_of(name, email, phone, metadata if isinstance(metadata, dict) else {})


def _runs(plain: str) -> list[str]:
    """The runs of letters of a folded text, with the apostrophes and hyphens in them."""
    if plain.isascii():
        return _ASCII_RUNS.findall(plain)
    found: list[str] = _all_runs().findall(_APART.sub("-", plain))
    return found


@cache
def _all_runs() -> re.Pattern[str]:
    return re.compile(f"{_run()}(?:['-]+{_run()})*")


def _run() -> str:
    return f"[^\\W_](?:[^\\W_]|[{marks()}])*"


def _starts(text: str) -> Iterable[str]:
    """Each folded run of a text without apostrophes and hyphens, from each place where a word may begin."""
    plain = folded(text)
    if not plain.isascii():
        return _starts_of(_runs(plain))
    if "'" not in plain and "-" not in plain:  # a faster way for most texts
        words = _ASCII_WORDS.findall(plain)
        return words if len(plain) <= _WORD_MAX else [word[:_WORD_MAX] for word in words]
    return _starts_of(_ASCII_RUNS.findall(plain))


def _starts_of(runs: list[str]) -> Iterator[str]:
    for run in runs:
        parts = _JOINTS.split(run)
        whole, at, starts = "".join(parts), 0, []
        for part in parts:
            starts.append(at)
            if not part.isascii():
                starts += [at + inner for inner in _inner_starts(part)]
            at += len(part)
        for start in starts[:_STARTS_MAX]:
            yield _cut(whole[start : start + _WORD_MAX])


def _inner_starts(part: str) -> Iterator[int]:
    """The places where words may begin in a part written without spaces."""
    if not _UNSPACED.search(part):
        return
    before = bool(_UNSPACED.match(part[0]))
    for place, char in enumerate(part[1:], 1):
        here = bool(_UNSPACED.match(char))
        if (here or before) and char.isalnum():
            yield place
        if char.isalnum():
            before = here


def _cut(word: str) -> str:
    return word[: _WORD_MAX if word.isascii() or not _UNSPACED.match(word) else _UNSPACED_MAX]


_EARLIER_WORDS: Final = re.compile(r"[^\W_]+")


def _earlier_words(text: str) -> list[str]:
    """The words of a text, folded as in the first version."""
    for _ in range(2):
        text = normalized("NFKD", text.casefold())
    kept = "".join([char for char in text if char < "\x80" or unicodedata.category(char)[0] != "M"])
    return [word[:_WORD_MAX] for word in _EARLIER_WORDS.findall(kept)]


def metadata_terms(key: str, text: str) -> list[str]:
    """The terms of a metadata value that a query writes as `text`: a text, or also the JSON value."""
    found = {_entry(key, text)}
    with suppress(orjson.JSONDecodeError):
        value = orjson.loads(text)
        if value is None or isinstance(value, bool | int | float):
            found.add(_entry(key, value))
    return sorted(found)


# Cached, since many customers share an entry. Typed, since 1, 1.0 and true are equal keys of a dict.
def _entry(key: str, value: Any) -> str:
    if isinstance(value, dict | list):  # from a foreign producer's event; our values are flat
        return _cached_entry.__wrapped__(key, value)
    return _cached_entry(key, value)


@lru_cache(8192, typed=True)
def _cached_entry(key: str, value: Scalar) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)  # 5.0 and 5 are one number
    digest = blake2b(orjson.dumps([key, value]), digest_size=9)
    return "=" + digest.hexdigest()


def after_prefix(prefix: str) -> str | None:
    """The smallest text, by code points, above all texts that begin with `prefix`; None if there is none."""
    while prefix:
        code = ord(prefix[-1])
        if code < _LAST_CHARACTER:
            following = 0xE000 if code == 0xD7FF else code + 1  # skip the surrogates
            return prefix[:-1] + chr(following)
        prefix = prefix[:-1]
    return None
