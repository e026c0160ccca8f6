"""Passwords of people who sign in: hashed with scrypt, checked in the same time for everybody."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import os
import re
from typing import Final

from ..domain.marks import normalized
from ..errors import FieldError, ValidationError

SHORTEST: Final = 10
LONGEST: Final = 200
# Anybody may type a name of a megabyte.
_TYPED_MAX: Final = 1000
NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,99}")

# OWASP's advice for scrypt with 32 MB: a guess costs an attacker as much as it costs us.
_N, _R, _P = 2**15, 8, 3


def hash_password(password: str) -> str:
    """The stored form of a password: `scrypt$N$r$p$salt$hash`."""
    salt = os.urandom(16)
    digest = _scrypt(password, salt, _N, _R, _P)
    return "$".join(("scrypt", str(_N), str(_R), str(_P), _text(salt), _text(digest)))


def check_password(password: str, stored: str | None) -> bool:
    """Whether this is the password. None stands for an unknown user, and takes as long."""
    _, n, r, p, salt, expected = (stored or _nobody()).split("$")
    found = _scrypt(password[: LONGEST * 4], _bytes(salt), int(n), int(r), int(p))
    return hmac.compare_digest(found, _bytes(expected)) and stored is not None


def checked_name(name: str) -> str:
    """A user's name in the one form it is stored and looked up. Raises ValidationError."""
    name = folded_name(name)
    if not NAME.fullmatch(name):
        raise ValidationError(
            [
                FieldError(
                    "name",
                    "bad_name",
                    "must be 1 to 100 of a-z, 0-9 . _ @ + -, as ann@example.org",
                )
            ]
        )
    return name


def folded_name(name: str) -> str:
    """The form in which a typed name is looked up. A name longer than any user's stays unchanged."""
    return normalized("NFC", name).strip().lower() if len(name) <= _TYPED_MAX else name


def checked_password(password: str) -> str:
    """A password that may be set. Raises ValidationError."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise ValidationError(
            [FieldError("password", "bad_password", f"must have {SHORTEST} to {LONGEST} characters")]
        )
    return password


@functools.cache
def _nobody() -> str:
    return hash_password(os.urandom(16).hex())


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    # The same password may be typed in composed or decomposed letters.
    text = normalized("NFC", password).encode("utf-8", "surrogatepass")
    return hashlib.scrypt(text, salt=salt, n=n, r=r, p=p, maxmem=256 * n * r, dklen=32)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)
