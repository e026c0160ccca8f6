"""The sort keys of names: base letters first, then accents, then case; and their length."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable

from hypothesis import assume, example, given
from hypothesis import strategies as st

from custsvc.domain.customers import INT64_MAX, NAME_MAX
from custsvc.domain.fold import folded
from custsvc.domain.name_key import is_name_key, name_key, name_prefix
from custsvc.http.cursors import _LONGEST, Cursors

from ..ordering import IN_ORDER

# The most bytes of a key in an index of PostgreSQL, less the id and the server's own.
ENTRY_MAX = 2704 - 64
NAMES = st.one_of(
    st.sampled_from(IN_ORDER),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40),
    st.text("aAáÁäzZ ß'’-_2éE", min_size=1, max_size=8),
)


def test_names_stand_where_people_look_for_them() -> None:
    shuffled = random.Random(1).sample(IN_ORDER, len(IN_ORDER))

    assert tuple(sorted(shuffled, key=name_key)) == IN_ORDER


def _accented(char: str) -> str:
    return unicodedata.normalize("NFC", char + "\u0301")


@st.composite
def alike(draw: st.DrawFn) -> tuple[str, str]:
    """A name, and the same with other accents and in other case."""
    name = draw(st.text("abezoAEZ '-2", min_size=1, max_size=10))
    changes: list[Callable[[str], str]] = [
        str,
        str.upper,
        str.lower,
        lambda char: unicodedata.normalize("NFC", char + "\u0301"),
    ]
    return name, "".join(draw(st.sampled_from(changes))(char) for char in name)


@given(alike(), NAMES)
def test_case_and_accents_never_part_names_that_are_alike_without_them(
    names: tuple[str, str], other: str
) -> None:
    one, same = names
    assume(folded(one) == folded(same) != folded(other))

    assert (name_key(one) < name_key(other)) == (name_key(same) < name_key(other))


@given(alike())
def test_accents_come_before_case(names: tuple[str, str]) -> None:
    plain, other = names
    assume(folded(plain) == folded(other) and not other.isascii())

    assert name_key(plain) < name_key(other)


@given(NAMES, NAMES)
def test_two_names_have_two_keys(a: str, b: str) -> None:
    assert (name_key(a) == name_key(b)) == (a == b)


@given(NAMES, st.integers(1, 40))
@example("Straße Müller", 6)
@example("🦊 Fox", 1)
def test_the_beginning_of_a_name_begins_its_key_however_it_is_written(name: str, length: int) -> None:
    beginning = name[:length]
    # Not within a letter that is written with several characters.
    assume(folded(name).startswith(folded(beginning)))

    for typed in (beginning, beginning.upper(), beginning.lower(), unicodedata.normalize("NFD", beginning)):
        if folded(name).startswith(folded(typed)):
            assert name_key(name).startswith(name_prefix(typed)), typed


def test_a_prefix_leads_to_names_and_not_to_what_follows_in_their_keys() -> None:
    for name in IN_ORDER:
        assert name_key(name) > name_prefix(name)
        assert is_name_key(name_key(name))
        assert not is_name_key(name)
        assert not name_key(name).startswith(name_prefix(name + "x"))
    assert [name_prefix(each) for each in ("\u0301", "\u00ad", "\u200b\u0301")] == ["", "", ""]


def longest_names() -> list[str]:
    """Names of as many characters as there may be, of one sort or of all of them."""
    rng = random.Random(2)
    ranges = [
        (0x21, 0x7F),
        (0xC0, 0x180),
        (0x400, 0x500),
        (0x4E00, 0x9FFF),
        (0xFB50, 0xFE00),
        (0x1F300, 0x1F600),
    ]
    everything = [chr(code) for first, end in ranges for code in range(first, end)]
    alike = [char * NAME_MAX for char in "aé\u0416山🦊\ufdfa\u1e9e\u0130ŉ\u3300"]
    return [*alike, *("".join(rng.choices(everything, k=NAME_MAX)) for _ in range(20))]


def test_a_key_fits_into_an_index_and_its_cursor_into_a_request() -> None:
    cursors = Cursors(lambda: b"secret")

    for name in longest_names():
        key = name_key(name)
        assert len(key.encode()) <= ENTRY_MAX, name[:3]
        cursor = cursors.make([key, INT64_MAX, 1], "scope")
        assert len(cursor) <= _LONGEST
        assert cursors.read(cursor, "scope")[0] == key
        assert key.startswith(name_prefix(name))


def test_names_of_usual_letters_are_compared_to_their_end() -> None:
    for char in "aéØ\u0416":
        long = char * (NAME_MAX - 1)
        assert name_key(long + "a") < name_key(long + "b") < name_key(long + "Ç")
