"""How likely two customers are one: what counts, and what does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from custsvc.domain.likeness import DEFAULT_SCORE, Company, compare, traits

Person = tuple[str, str | None, str | None]
ADA: Person = ("Ada Lovelace", "ada.l@example.org", "+49 170 1234567")
NAMES = st.sampled_from(
    ["Ada Lovelace", "A. Lovelace", "Zoë O'Neil", "Acme GmbH", "山田太郎", "Dr.", "x"]
) | st.text(min_size=1, max_size=20)
PERSONS = st.tuples(
    NAMES,
    st.none()
    | st.sampled_from(["ada@example.org", "ADA+x@example.org", "info@example.org", "a.d.a@gmail.com"]),
    st.none() | st.sampled_from(["+49 170 1234567", "0170/1234567", "12", "+", "call me"]),
)


def score(one: Person, other: Person, company: Company | None = None) -> float:
    found = compare(traits(1, 1, *one), traits(2, 1, *other), company or Company())
    assert found is not None
    return found.score


@pytest.mark.parametrize(
    "other",
    [
        ("LOVELACE, Ada", "ADA.L@EXAMPLE.ORG", None),
        ("A. Lovelace", "other@example.org", "0170/1234567"),
        ("Ada Lovelace", None, "0049 170 123 45 67"),
        ("Ada Lovlace", "ada.l@example.org", "+1 555 0001111"),
        ("Adá Lovelace", "ada.l+shop@example.org", None),
        ("Dr. Ada Augusta Lovelace", "ada.l@example.org", None),
        ("Ada Lovelace", "ada.l@exmaple.org", None),
        ("Ada King", "ada.l@example.org", None),
    ],
)
def test_the_same_person_written_otherwise_is_a_duplicate(other: Person) -> None:
    assert score(ADA, other) >= DEFAULT_SCORE


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ADA, ("Ada Lovelace", "ada@other.example", "+1 555 0001111")),
        (ADA, ("Byron Lovelace", "ada.l@example.org", "+49 170 1234567")),
        (ADA, ("William King", None, "+49 170 1234567")),
        (("Ann Lee", "info@example.org", None), ("Bob Ray", "info@example.org", None)),
        (("Ann Lee", "ann.lee1@example.org", None), ("Ann Lee", "ann.lee2@example.org", None)),
        (("John Smith", "john.smith@a.example", None), ("John Smith", "john.smith@b.example", None)),
        (("Jana Smith", "jana.smith@a.example", None), ("Jan Smith", "jan.smith@a.example", None)),
        (("John Smith", None, None), ("John Smith", None, None)),
        (("Ann Lee", None, "0000000"), ("Ann Lee", None, "0000000")),
    ],
)
def test_others_who_share_something_are_not(one: Person, other: Person) -> None:
    assert score(one, other) < DEFAULT_SCORE


def test_a_rare_name_is_enough_where_nothing_speaks_against_it() -> None:
    bare, with_email = ("Xaver Unterhuber", None, None), ("Xaver Unterhuber", "x@example.org", None)
    rare = Company("rare")

    assert score(bare, with_email, rare) >= DEFAULT_SCORE > score(bare, with_email)
    assert score(with_email, ("Xaver Unterhuber", "y@example.com", None), rare) < DEFAULT_SCORE


def test_a_value_that_many_share_is_weaker_evidence() -> None:
    many = Company(is_email_shared=True, is_phone_shared=True)
    other = ("Ada Lovelock", "ada.l@example.org", None)

    assert score(ADA, other) >= DEFAULT_SCORE > score(ADA, other, many)


def test_the_reasons_say_what_is_alike() -> None:
    found = compare(traits(1, 1, *ADA), traits(2, 1, "Ada Lovelase", "ADA.L@example.org", "0170 1234567"))

    assert found is not None
    assert found.reasons == ("same email", "same phone", "name alike 0.91")


@given(PERSONS, PERSONS, st.floats(0, 1))
def test_two_are_as_alike_as_the_two(one: Person, other: Person, least: float) -> None:
    a, b = traits(1, 1, *one), traits(2, 1, *other)
    there, back = compare(a, b), compare(b, a)

    assert there is not None and back is not None
    assert 0 <= there.score <= 1
    assert there == back
    assert compare(a, b, at_least=least) == (there if there.score >= least else None)
