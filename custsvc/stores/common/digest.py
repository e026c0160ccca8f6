"""The bytes of a customer in a digest, for backends whose server cannot hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

_NULL = "\x1e"


def line(
    customer_id: int,
    version: int,
    deleted: bool,
    name: str,
    email: str | None,
    phone: str | None,
    created_ms: int,
    updated_ms: int,
    doc: str,
) -> str:
    """The line of one customer. No field can hold the separators: control characters are refused."""
    email, phone = _NULL if email is None else email, _NULL if phone is None else phone
    return (
        f"{customer_id}\x1f{version}\x1f{deleted:d}\x1f{name}\x1f{email}\x1f{phone}"
        f"\x1f{created_ms}\x1f{updated_ms}\x1f{doc}"
    )


def digest(lines: Iterable[str]) -> str:
    """The hash of customers in the order of id."""
    return hashlib.md5("\n".join(lines).encode(), usedforsecurity=False).hexdigest()
