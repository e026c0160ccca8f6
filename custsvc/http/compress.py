"""Answers compressed with gzip, for callers that take it: JSON and exports, which shrink to a tenth.

Pages are not: they hold a secret, the token of their forms, and what a caller sends; from the length of both
compressed together the secret could be guessed (BREACH).
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
    """Compress an answer that is not short, where the caller takes it."""
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
        # Other bytes than those of the strong tag, of the same version.
        answer.put("ETag", f"W/{tag}")


class _Zipped(Iterator[bytes]):
    """The parts of a long answer, compressed; one that is cut off has no end here either."""

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
