"""Cursors of lists: the end of a page, signed, and bound to its list."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property
from typing import Any, Final

import orjson
from itsdangerous import BadData, Signer, URLSafeSerializer
from itsdangerous.encoding import base64_encode

from .problems import Problem

# A sort key may be the longest possible name, with each character escaped.
_LONGEST: Final = 8000
# Bytes up to which a place is not worth compressing.
_SHORT: Final = 300
_DIGEST: Final = hashlib.sha256


class Cursors:
    """Makes and reads cursors. `secret` is called once, for the first of them."""

    def __init__(self, secret: Callable[[], bytes]) -> None:
        self._secret = secret

    @cached_property
    def _serializer(self) -> URLSafeSerializer:
        how = {"digest_method": _DIGEST}
        return URLSafeSerializer(self._secret(), salt="custsvc.cursor", signer_kwargs=how)

    @cached_property
    def _signer(self) -> Signer:
        """Signs as the serializer does, but derives its key only once."""
        key = self._serializer.make_signer(self._serializer.salt).derive_key()
        return Signer(key, key_derivation="none", digest_method=_DIGEST)

    def make(self, place: Any, scope: str) -> str:
        """The cursor of a place (plain JSON) in the list that `scope` describes: sort, filters, subject."""
        content = [place, _hash(scope)]
        text = orjson.dumps(content)
        # The serializer compresses all it is given, to see whether that is shorter.
        payload = base64_encode(text) if len(text) <= _SHORT else self._serializer.dump_payload(content)
        return self._signer.sign(payload).decode()

    def read(self, text: str, scope: str) -> Any:
        """The place in a cursor. Raises Problem for a cursor of another list, or a forged one."""
        try:
            place, of = self._serializer.load_payload(self._signer.unsign(text[: _LONGEST + 1]))
        except (BadData, ValueError, TypeError) as exc:
            raise Problem(400, "bad-cursor", "use the cursor from a list's `next` unchanged") from exc
        if of != _hash(scope):
            raise Problem(400, "cursor-mismatch", "the cursor is of a list with other filters; start again")
        return place


def _hash(scope: str) -> str:
    return hashlib.blake2b(scope.encode(), digest_size=6).hexdigest()
