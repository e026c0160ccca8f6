"""Passwords: the stored hashes, and the checks."""

from __future__ import annotations

import time
from statistics import median

import pytest

from custsvc.accounts import passwords
from custsvc.accounts.passwords import (
    check_password,
    checked_name,
    checked_password,
    folded_name,
    hash_password,
)
from custsvc.errors import ValidationError


@pytest.fixture(autouse=True)
def cheap_passwords() -> None:
    """None: here they cost what they cost."""


def test_only_the_password_that_was_hashed_is_right() -> None:
    stored = hash_password("correct horse")

    assert check_password("correct horse", stored)
    assert not check_password("correct horsf", stored)
    assert not check_password("", stored)
    assert "correct" not in stored


def test_the_same_password_is_hashed_differently_each_time() -> None:
    assert hash_password("correct horse") != hash_password("correct horse")


def test_a_user_that_is_not_there_has_no_password_that_is_right() -> None:
    assert not check_password("correct horse", None)


def test_a_password_may_be_typed_in_composed_or_decomposed_letters() -> None:
    assert check_password("pa\u0308sswort-1", hash_password("p\u00e4sswort-1"))


@pytest.mark.parametrize("password", ["short", "x" * 201, ""])
def test_a_password_that_is_too_short_or_too_long_is_refused(password: str) -> None:
    with pytest.raises(ValidationError, match="10 to 200"):
        checked_password(password)


@pytest.mark.parametrize("name", ["", " ", "a b", "<b>", "a:b", "-ann", "x" * 101])
def test_a_name_that_could_be_mistaken_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        checked_name(name)


def test_a_name_is_the_same_in_capitals() -> None:
    assert checked_name(" Ann@Example.org ") == folded_name("ANN@example.org") == "ann@example.org"


@pytest.mark.slow
def test_a_user_that_is_not_there_takes_as_long_as_a_wrong_password() -> None:
    """S3."""
    # No measurement: a check left out would be a thousand times quicker, and a busy machine is not.
    assert 0.2 < nobody_to_somebody(tries=5) < 5


@pytest.mark.long
def test_over_200_tries_a_user_that_is_not_there_takes_within_a_tenth_as_long() -> None:
    """S3."""
    ratio = nobody_to_somebody(tries=200)

    print(f"nobody takes {ratio:.3f} of the time of somebody")
    assert 0.9 < ratio < 1.1


def nobody_to_somebody(tries: int) -> float:
    stored = hash_password("correct horse")
    taken: dict[str | None, list[float]] = {stored: [], None: []}
    check_password("warm up", None)
    for _ in range(tries):
        for each, times in taken.items():
            begun = time.thread_time()
            check_password("not the password", each)
            times.append(time.thread_time() - begun)
    return median(taken[None]) / median(taken[stored])


def test_for_a_user_that_is_not_there_the_same_work_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """S3: one hash of the same cost, after the first that was ever asked for."""
    stored = hash_password("correct horse")
    check_password("a guess", None)
    done: list[tuple[object, ...]] = []
    scrypt = passwords._scrypt

    def counted(password: str, salt: bytes, *cost: int) -> bytes:
        done.append((password, len(salt), *cost))
        return scrypt(password, salt, *cost)

    monkeypatch.setattr(passwords, "_scrypt", counted)
    for each in (stored, None):
        assert not check_password("a guess", each)

    assert len(done) == 2
    assert done[0] == done[1]
