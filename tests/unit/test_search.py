"""Search terms: texts that fold alike find each other, different letters do not."""

from __future__ import annotations

import sys
import time
import unicodedata

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from custsvc.domain.fold import folded
from custsvc.domain.search import asked, stored_terms, terms_of

from ..finding import FOUND, NOT_FOUND, OTHER_PHONES, PHONES, TYPED

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
NAMES = st.one_of(TEXT, st.sampled_from([name for _, name in FOUND]))


def finds(query: str, name: str = "x", email: str | None = None, phone: str | None = None) -> bool:
    """Whether a query finds somebody, by the rule that both databases follow."""
    terms, want = terms_of(name, email, phone, {}), asked(query)

    def begins(word: str) -> bool:
        return any(term.startswith(word) for term in terms)

    return (
        bool(want.words or want.phrases)
        and all(map(begins, want.words))
        and all(any(all(map(begins, way)) for way in ways) for ways in want.phrases)
    )


@pytest.mark.parametrize(("query", "name"), FOUND)
def test_another_spelling_of_a_name_finds_it(query: str, name: str) -> None:
    assert finds(query, name), (asked(query), terms_of(name, None, None, {}))


@pytest.mark.parametrize(("query", "name"), [*NOT_FOUND, ("...", "Ann")])
def test_another_name_is_not_found(query: str, name: str) -> None:
    assert not finds(query, name)


@pytest.mark.parametrize("phone", PHONES)
@pytest.mark.parametrize("query", TYPED)
def test_a_number_is_found_however_it_is_written(query: str, phone: str) -> None:
    assert finds(query, phone=phone), (asked(query), terms_of("x", None, phone, {}))


@pytest.mark.parametrize(("query", "phone"), OTHER_PHONES)
def test_another_number_is_not_found(query: str, phone: str) -> None:
    assert not finds(query, phone=phone)


def test_an_address_is_found_by_its_parts_and_as_a_whole() -> None:
    for query in ("jean-luc.picard@star-fleet.example", "picard", "fleet", "starfleet", "jeanluc", "EXAMPLE"):
        assert finds(query, email="Jean-Luc.Picard@star-fleet.example"), query


@given(TEXT)
@example("\u0390")
@example("\u1fd3")
@example("´")
@example("ŉ")
def test_folding_twice_changes_nothing(text: str) -> None:
    assert folded(folded(text)) == folded(text)


@given(NAMES)
def test_a_name_is_found_by_itself_in_any_case_form_and_width(name: str) -> None:
    assume(terms_of(name, None, None, {}))
    want = asked(name)
    assume(want.words or want.phrases)
    forms = [unicodedata.normalize(form, name) for form in ("NFC", "NFD", "NFKC", "NFKD")]
    for query in (name, name.upper(), name.lower(), name.casefold(), *forms):
        assert finds(query, name), (query, asked(query), terms_of(name, None, None, {}))


@given(st.text("0123456789", min_size=7, max_size=12), st.data())
def test_a_number_is_found_by_its_last_digits_and_in_any_grouping(digits: str, data: st.DataObject) -> None:
    assume(not digits.startswith("00"))
    stored = data.draw(grouped(digits))
    query = data.draw(grouped(digits[-data.draw(st.integers(4, len(digits))) :]))
    assume(not query.startswith("00"))

    assert finds(query, phone=stored), (asked(query), terms_of("x", None, stored, {}))


def grouped(digits: str) -> st.SearchStrategy[str]:
    """Digits with what people write between them."""
    between = st.lists(
        st.sampled_from(["", "", "", " ", "-", ".", " - "]), min_size=len(digits), max_size=len(digits)
    )
    return between.map(lambda marks: "".join(map("".join, zip(digits, marks, strict=True))).rstrip(" -."))


@given(st.text(max_size=400), st.text(max_size=300), st.text(max_size=100))
@example("a-" * 200, "", "")
@example("山" * 400, "", "1 " * 50)
@example("".join(map(chr, range(0x4E00, 0x4E00 + 400))), "", "")
@example("-".join(f"a{n}" for n in range(120)), "", "")
def test_the_terms_of_a_customer_are_bounded(name: str, email: str, phone: str) -> None:
    terms = terms_of(name, email, phone, {})

    assert len(terms) <= 600
    assert max(map(len, terms), default=0) <= 66
    assert not any(set(term) & set("'\\ \0") for term in terms)
    assert terms == sorted(set(terms))


_WRITTEN = st.text(st.sampled_from("aB7 -'`._@é山K") | st.characters(max_codepoint=0x2FF), max_size=90)


@given(_WRITTEN, _WRITTEN)
@example("O'Brien", "x" * 70 + "@example.com")
@example("K", "a@b.example")  # a Kelvin sign, whose small letter is ASCII
def test_a_name_and_an_address_have_the_terms_of_each_alone(name: str, email: str) -> None:
    alone = {*terms_of(name, None, None, {}), *terms_of("", email, None, {})}

    assert terms_of(name, email, None, {}) == sorted(alone)


def test_no_text_takes_longer_to_fold_than_it_is_long() -> None:
    def seconds(text: str) -> float:
        started = time.process_time()
        terms_of(text, text, text, {})
        asked(text)
        return time.process_time() - started

    for pattern in ("1", "1 ", "(", "+", "-", "'", "a-", "a'", "山 ", "山", "1-(", "0", "\u0301", " "):
        short, long = (min(seconds(pattern * count) for _ in range(3)) for count in (2_000, 16_000))
        assert long < max(short, 0.002) * 40, pattern


@pytest.mark.slow
def test_every_character_of_unicode_can_be_stored_and_asked() -> None:
    for start in range(0, sys.maxunicode, 4096):
        text = " ".join(
            chr(code) for code in range(max(start, 1), start + 4096) if not 0xD800 <= code <= 0xDFFF
        )
        for word in (*terms_of(text, None, text, {}), *asked(text).words):
            assert word
            assert word[0] in "#~" or word[0].isalnum(), word


def test_terms_can_be_made_of_any_document() -> None:
    for doc in ("", "{}", "[1]", "nonsense", '{"metadata":[]}', '{"metadata":null}'):
        assert stored_terms("Ann", None, None, doc) == ["ann"]
    assert stored_terms("Ann", None, None, '{"metadata":{"a":1}}') == terms_of("Ann", None, None, {"a": 1})
