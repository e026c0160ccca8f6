"""Compresses answers with gzip, for callers that accept it: JSON and exports, which shrink to a tenth.

Pages are not compressed: they hold a secret, the token of their forms, together with input of the caller;
from the compressed length an attacker could guess the secret (BREACH).
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from typing import Any, Final

from .answer import Answer
from .request import Request

# Shorter answers hardly fit into fewer packets, and nearly all answers about one customer are short.
SHORTEST: Final = 1024
_LEVEL: Final = 4
_TYPES: Final = frozenset(
    (
        "application/json",
        "application/problem+json",
        "application/x-ndjson",
        "application/schema+json",
        "text/csv",
    )
)


def compress(request: Request, answer: Answer) -> None:
    """Compress an answer that is not short, if the caller accepts it."""
    media_type = (answer.header("Content-Type") or "").partition(";")[0]
    if media_type not in _TYPES or answer.header("Content-Encoding"):
        return
    vary = answer.header("Vary")
    answer.put("Vary", f"{vary}, Accept-Encoding" if vary else "Accept-Encoding")
    if not request.takes_coding("gzip"):
        return
    if isinstance(answer.body, bytes):
        answer.body = gzip.compress(answer.body, _LEVEL, mtime=0)
        answer.put("Content-Length", str(len(answer.body)))
    else:
        answer.body = _Zipped(answer.body)
    answer.put("Content-Encoding", "gzip")
    tag = answer.header("ETag")
    if tag is not None and tag.startswith('"'):
        # The bytes differ from those of the strong tag, the version does not.
        answer.put("ETag", f"W/{tag}")


class _Zipped(Iterator[bytes]):
    """The parts of a long answer, compressed; an interrupted answer gets no valid gzip end."""

    def __init__(self, parts: Any) -> None:
        self._parts = parts
        self._zip: Any = zlib.compressobj(_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)

    def __next__(self) -> bytes:
        while self._zip is not None:
            try:
                part = self._zip.compress(next(self._parts))
            except StopIteration:
                part, self._zip = self._zip.flush(), None
            if part:
                return bytes(part)
        raise StopIteration

    def close(self) -> None:
        self._parts.close()
