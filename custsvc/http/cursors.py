"""Cursors of lists: the end of a page, signed, and bound to its list."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property
from typing import Any, Final

from itsdangerous import BadData, URLSafeSerializer

from .problems import Problem

# A sort key may be the longest possible name, with each character escaped.
_LONGEST: Final = 8000


class Cursors:
    """Makes and reads cursors. `secret` is called once, for the first of them."""

    def __init__(self, secret: Callable[[], bytes]) -> None:
        self._secret = secret

    @cached_property
    def _serializer(self) -> URLSafeSerializer:
        return URLSafeSerializer(
            self._secret(), salt="custsvc.cursor", signer_kwargs={"digest_method": hashlib.sha256}
        )

    def make(self, place: Any, scope: str) -> str:
        """The cursor of a place (plain JSON) in the list that `scope` describes: sort, filters, subject."""
        text = self._serializer.dumps([place, _hash(scope)])
        return text if isinstance(text, str) else text.decode()

    def read(self, text: str, scope: str) -> Any:
        """The place in a cursor. Raises Problem for a cursor of another list, or a forged one."""
        try:
            place, of = self._serializer.loads(text[: _LONGEST + 1])
        except (BadData, ValueError, TypeError) as exc:
            raise Problem(400, "bad-cursor", "use the cursor from a list's `next` unchanged") from exc
        if of != _hash(scope):
            raise Problem(400, "cursor-mismatch", "the cursor is of a list with other filters; start again")
        return place


def _hash(scope: str) -> str:
    return hashlib.blake2b(scope.encode(), digest_size=6).hexdigest()
