"""How likely two customers are the same one: a score from 0 to 1, with the reasons for it.

What is alike and what is not adds up to points, as in the record linkage of Fellegi and Sunter, and the
points become a score. An address or a number that both have counts most. It does not count alone: couples
share one, and so do all who answer at info@. A name alone counts little unless few have it. The points were
set on made-up customers (`benchmarks/duplicates.py` measures recall and precision), where wrong pairs end
below `DEFAULT_SCORE`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from .email_key import email_key
from .fold import folded
from .names_alike import NameLikeness, likeness_of_names, person_words
from .phone import national_digits

DEFAULT_SCORE: Final = 0.8
"""Pairs with this score or more are called duplicates where nobody asks for another one."""

_DIGITS: Final = re.compile("[0-9]")
# Addresses of an office, not of a person; and what is typed where an address must be given.
SHARED_BOXES: Final = frozenset(
    "info office mail email contact kontakt hello hallo sales service support admin team buero post noreply "
    "no-reply none na test user customer customers accounts accounting billing invoice invoices rechnung "
    "rechnungen order orders bestellung webmaster postmaster help reception secretary sekretariat enquiries "
    "marketing hr jobs press unknown nobody nomail".split()
)
_PROVIDERS: Final = frozenset(
    "gmail.com ymail.com mail.com email.com hotmail.com hotmail.de hotmail.fr outlook.com outlook.de "
    "live.com yahoo.com yahoo.de yahoo.fr rocketmail.com gmx.de gmx.net gmx.at gmx.com web.de aol.com "
    "icloud.com me.com mac.com proton.me protonmail.com mail.ru msn.com".split()
)
_GOOGLE: Final = ("gmail.com", "googlemail.com")
_NEAR_FROM: Final = 6
_LOCAL_FROM: Final = 5
_LABEL_FROM: Final = 4
_LINE_FROM: Final = 7

Rarity = Literal["rare", "unknown", "common"]
How = Literal["same", "shared", "alike", "box", "tail", "other", "unknown"]


@dataclass(frozen=True, slots=True)
class Traits:
    """The traits by which a customer is compared: folded, and without mere differences in writing.

    `box` and `domain` are the parts of the address, without a `+tag` and Gmail's dots.
    """

    id: int
    version: int
    words: tuple[str, ...]
    email: str
    box: str
    domain: str
    phone: str


class Likeness(NamedTuple):
    """A score from 0 to 1, and what speaks for it."""

    score: float
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Company:
    """How many share what two customers share. More bearers make it weaker evidence."""

    name: Rarity = "unknown"
    is_email_shared: bool = False
    is_phone_shared: bool = False


ALONE: Final = Company()
_POINTS: Final[dict[str, dict[How, float]]] = {
    "email": {"same": 5.0, "shared": 1.5, "alike": 3.5, "box": 2.5, "other": -1.5, "unknown": 0.0},
    "phone": {"same": 4.0, "shared": 1.5, "tail": 2.0, "alike": 1.0, "other": -1.5, "unknown": 0.0},
}
# Customers that share one often share the other.
_BOTH_SAME: Final = 6.5
_RARITY: Final[dict[Rarity, float]] = {"rare": 2.0, "unknown": 0.0, "common": -0.5}
_ANY_TWO: Final = -2.0
# Nothing here is proof.
_SUREST: Final = 0.99
# The least likeness of names, and what it is worth.
_NAMES: Final = ((0.97, 2.0), (0.88, 1.5), (0.78, 1.0), (0.7, -0.5), (0.0, -5.0))
_SAME_NAME: Final = 0.97
_ALIKE_NAME: Final = 0.78
# Of names that share the given name only, as after a marriage.
_GIVEN_NAME: Final = -1.5
_SAID: Final[dict[How, str]] = {
    "same": "same {}",
    "shared": "same {}, which many have",
    "alike": "{} alike",
    "box": "same mailbox elsewhere",
    "tail": "{} ends alike",
}


def traits(customer_id: int, version: int, name: str, email: str | None, phone: str | None) -> Traits:
    """The traits of a customer as stored."""
    box, domain = _mailbox(email) if email else ("", "")
    number = national_digits(folded(phone)) if phone else ""
    return Traits(
        customer_id,
        version,
        person_words(name),
        email_key(email) if email else "",
        box,
        domain,
        number if _is_line(number) else "",
    )


def _mailbox(email: str) -> tuple[str, str]:
    box, _, domain = email_key(email).rpartition("@")
    box = box.partition("+")[0] or box
    if domain in _GOOGLE:
        return box.replace(".", ""), _GOOGLE[0]
    return box, domain


def _is_line(number: str) -> bool:
    """Whether these digits are one line, and not 0000000 or 1234567."""
    return len(number) >= 5 and len(set(number)) > 2 and number not in "1234567890123456789"


def compare(
    one: Traits, other: Traits, company: Company = ALONE, *, at_least: float = 0.0
) -> Likeness | None:
    """How likely the two are the same customer; None where that is less than `at_least`."""
    email, phone = _emails(one, other, company), _phones(one.phone, other.phone, company)
    contact = _BOTH_SAME if email == phone == "same" else _POINTS["email"][email] + _POINTS["phone"][phone]
    # Most of those with a common name have nothing else in common, and names are the dear part.
    if _score(_ANY_TWO + contact + _NAMES[0][1] + max(_RARITY[company.name], 0.0)) < at_least:
        return None
    names = likeness_of_names(one.words, other.words)
    if email == "box" and names.score < _SAME_NAME:
        email = "other"
        contact = _POINTS["email"][email] + _POINTS["phone"][phone]
    points = _ANY_TWO + contact + _name_points(names.score, names.is_given_same)
    if names.score >= _ALIKE_NAME:
        points += _RARITY[company.name]
    if email == "alike" and names.score < _SAME_NAME:
        # The address of a similar name is a similar address.
        points -= 2.0
    score = _score(points)
    return Likeness(score, _reasons(names, email, phone, company)) if score >= at_least else None


def _score(points: float) -> float:
    return min(round(1 / (1 + math.exp(-points)), 2), _SUREST)


def _reasons(names: NameLikeness, email: How, phone: How, company: Company) -> tuple[str, ...]:
    """What speaks for the two being one, in plain words."""
    reasons = [_SAID[how].format(what) for what, how in (("email", email), ("phone", phone)) if how in _SAID]
    if names.score >= _ALIKE_NAME:
        rare = "rare " if company.name == "rare" else ""
        alike = f"name alike {names.score:.2f}"
        reasons.append(f"same {rare}name" if names.score >= 1.0 else f"{rare}{alike}")
    elif names.is_given_same:
        reasons.append("same given name")
    return tuple(reasons)


def _name_points(score: float, is_given_same: bool) -> float:
    points = next(points for least, points in _NAMES if score >= least)
    return max(points, _GIVEN_NAME) if is_given_same else points


def _emails(one: Traits, other: Traits, company: Company) -> How:
    if not one.email or not other.email:
        return "unknown"
    if (one.box, one.domain) == (other.box, other.domain):
        is_shared = company.is_email_shared or one.box in SHARED_BOXES
        return "shared" if is_shared else "same"
    if _is_misspelt(one, other):
        return "alike"
    return "box" if one.box == other.box and _is_distinctive(one.box, one) else "other"


def _is_distinctive(box: str, owner: Traits) -> bool:
    """Whether a mailbox says more than its owner's name: all John Smiths are john.smith somewhere."""
    rest = box
    for word in owner.words:
        rest = rest.replace(word, "", 1)
    letters = sum(char.isalnum() for char in rest)
    return len(box) >= _LOCAL_FROM and box not in SHARED_BOXES and letters >= 2


def _is_misspelt(one: Traits, other: Traits) -> bool:
    """Whether two addresses differ by a slip of the finger; another digit makes another address."""
    from rapidfuzz.distance import OSA

    a, b = f"{one.box}@{one.domain}", f"{other.box}@{other.domain}"
    most = 1 if min(len(one.box), len(other.box)) < _NEAR_FROM else 2
    if not one.box or not other.box or OSA.distance(a, b, score_cutoff=most) > most:
        return False
    return _DIGITS.findall(a) == _DIGITS.findall(b) and (
        one.domain == other.domain or _may_be_misspelt(one.domain, other.domain)
    )


def _may_be_misspelt(one: str, other: str) -> bool:
    """Whether one of these domains, which are alike, may be a slip for the other.

    `ymail.com` is a provider of its own.
    """
    labels = [domain.partition(".")[0] for domain in (one, other)]
    return min(map(len, labels)) >= _LABEL_FROM and not _PROVIDERS.issuperset((one, other))


def _phones(one: str, other: str, company: Company) -> How:
    if not one or not other:
        return "unknown"
    short, long = sorted((one, other), key=len)
    if long == short or (len(short) > _LINE_FROM and long.endswith(short) and len(long) - len(short) <= 4):
        return "shared" if company.is_phone_shared else "same"
    if len(short) == _LINE_FROM and long.endswith(short):
        return "tail"
    from rapidfuzz.distance import OSA

    is_near = len(short) > _LINE_FROM and OSA.distance(one, other, score_cutoff=1) <= 1
    return "alike" if is_near else "other"
