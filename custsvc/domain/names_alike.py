"""How alike two names are: in any order of words, with initials or nicknames, misspelt, without a title.

Words are compared each with the one that it is most like; the share of letters that fit is the likeness.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from .nicknames import stand_for_each_other
from .search import words_of

# Words before or after a name that are not part of it.
_TITLES: Final = frozenset(
    "mr mrs ms miss mx dr prof herr frau fr hr dipl ing mag med sir dame rev jr sr ii iii phd md esq "
    "monsieur madame mme mlle sig sra srta".split()
)
_LEGAL: Final = frozenset(
    "gmbh ag kg ohg ug mbh co company corp corporation inc incorporated llc llp lp ltd limited plc pty sa "
    "sas sarl srl spa bv nv ab as oy oyj aps sl ev eg se kk the und and".split()
)
_PARTICLES: Final = frozenset("von van der den de del della di da dos du la le el al bin ibn zu zur".split())
_WORDS_MAX: Final = 6
_INITIAL: Final = 0.9
_NICKNAME: Final = 0.95
_SHORTENED: Final = 0.9
_SHORTENED_FROM: Final = 3
# Below this two words are two words.
_ANY: Final = 0.5
# Each word that only one of the names has, as a middle name; a name of one word says little about another.
_EXTRA: Final = 0.96
_PARTICLE: Final = 0.99
_ONE_WORD: Final = 0.72
_NOT_JOINED: Final = 0.85


class NameLikeness(NamedTuple):
    """From 0 to 1; and whether both begin with the same word, where that is a given name."""

    score: float
    is_given_same: bool


@lru_cache(8192)
def person_words(name: str) -> tuple[str, ...]:
    """The distinctive words of a name: without titles, legal forms and signs."""
    words = words_of(name)
    distinctive = [word for word in words if word not in _TITLES and word not in _LEGAL]
    return tuple((distinctive or words)[:_WORDS_MAX])


def likeness_of_names(one: tuple[str, ...], other: tuple[str, ...]) -> NameLikeness:
    """How alike two names are, each given by its `person_words`."""
    if not one or not other:
        return NameLikeness(0.0, False)
    is_given_same = len(one) > 1 and len(other) > 1 and len(one[0]) > 1 and one[0] == other[0]
    if one == other or sorted(one) == sorted(other):
        return NameLikeness(1.0, is_given_same)
    return NameLikeness(max(_by_words(one, other), _joined(one, other)), is_given_same)


def _joined(one: tuple[str, ...], other: tuple[str, ...]) -> float:
    """How alike they are as one word: `anna maria` and `annamaria`."""
    if len(one) == len(other):
        return 0.0
    from rapidfuzz.distance import OSA

    alike = OSA.normalized_similarity("".join(one), "".join(other), score_cutoff=_NOT_JOINED)
    return float(alike)


def _by_words(one: tuple[str, ...], other: tuple[str, ...]) -> float:
    short, long = sorted((one, other), key=len)
    alike = sorted((-_words_alike(a, b), i, j) for i, a in enumerate(short) for j, b in enumerate(long))
    left, right = set(range(len(short))), set(range(len(long)))
    weight = total = 0.0
    whole = 0
    for value, i, j in alike:
        if i in left and j in right:
            left.discard(i)
            right.discard(j)
            letters = (max(len(short[i]), 3) + max(len(long[j]), 3)) / 2
            weight += letters
            total += letters * -value
            whole += min(len(short[i]), len(long[j])) > 1 and -value >= _ANY
    score = total / weight
    for extra in right:
        score *= _PARTICLE if long[extra] in _PARTICLES or len(long[extra]) == 1 else _EXTRA
    if len(short) == 1 < len(long) or not whole:
        score *= _ONE_WORD
    return score


def _words_alike(one: str, other: str) -> float:
    if one == other:
        return 1.0
    short, long = sorted((one, other), key=len)
    if len(short) == 1:
        return _INITIAL if long.startswith(short) else 0.0
    if stand_for_each_other(one, other):
        return _NICKNAME
    from rapidfuzz.distance import OSA

    alike = float(OSA.normalized_similarity(one, other))
    if len(short) >= _SHORTENED_FROM and long.startswith(short):
        alike = max(alike, _SHORTENED)
    return alike if alike >= _ANY else 0.0
