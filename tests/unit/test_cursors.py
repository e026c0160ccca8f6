"""Cursors: short, signed, and readable whichever release made them."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from itsdangerous import URLSafeSerializer

from custsvc.http.cursors import Cursors
from custsvc.http.problems import Problem

SECRET = b"a secret of the service"
PLACES: list[Any] = [
    [1, 1, 0],
    [2**63 - 1, 2**63 - 1, 1],
    ["2026-11-30T10:59:48.123Z", 12345, 0],
    ["", 7, 0],
    ['Žofie 🙂\u2028\x7f\\"', 7, 1],
    ["a" * 200, 7, 0],
    ["é" * 255, 7, 0],
    ["🙂" * 1000, 7, 0],
    [3, 4],
    12,
]


def as_before(place: Any, scope: str) -> str:
    """A cursor as releases up to 0.1.0 made it."""
    serializer = URLSafeSerializer(
        SECRET, salt="custsvc.cursor", signer_kwargs={"digest_method": hashlib.sha256}
    )
    text = serializer.dumps([place, hashlib.blake2b(scope.encode(), digest_size=6).hexdigest()])
    return text if isinstance(text, str) else text.decode()


@pytest.mark.parametrize("place", PLACES, ids=ascii)
def test_a_cursor_brings_its_place_back_whichever_release_made_it(place: Any) -> None:
    cursors = Cursors(lambda: SECRET)
    assert cursors.read(cursors.make(place, "of a list"), "of a list") == place
    assert cursors.read(as_before(place, "of a list"), "of a list") == place


@pytest.mark.parametrize("place", PLACES, ids=ascii)
def test_an_earlier_release_beside_this_one_reads_its_cursors(place: Any) -> None:
    made = Cursors(lambda: SECRET).make(place, "of a list")
    earlier = URLSafeSerializer(
        SECRET, salt="custsvc.cursor", signer_kwargs={"digest_method": hashlib.sha256}
    )
    assert earlier.loads(made)[0] == place


@pytest.mark.parametrize("place", PLACES, ids=ascii)
def test_a_cursor_that_was_changed_anywhere_is_refused(place: Any) -> None:
    cursors = Cursors(lambda: SECRET)
    made = cursors.make(place, "of a list")
    for at in range(0, len(made) - 1, max(1, len(made) // 40)):
        forged = made[:at] + ("A" if made[at] != "A" else "B") + made[at + 1 :]
        with pytest.raises(Problem) as refused:
            cursors.read(forged, "of a list")
        assert refused.value.code == "bad-cursor"


def test_a_name_as_long_as_can_be_makes_no_longer_cursor_than_before() -> None:
    for place in PLACES:
        assert len(Cursors(lambda: SECRET).make(place, "")) <= max(460, len(as_before(place, "")))
