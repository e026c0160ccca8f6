"""Answers compressed with gzip, for callers that take it: JSON and exports, which shrink to a tenth.

Pages are not: they hold a secret, the token of their forms, and what a caller sends; from the length of both
compressed together the secret could be guessed (BREACH).
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from typing import Any, Final

from flask import Response, request

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


def compress(response: Response) -> None:
    """Compress an answer that is not short, where the caller takes it."""
    headers = response.headers
    if response.mimetype not in _TYPES or "Content-Encoding" in headers:
        return
    vary = headers.get("Vary")
    headers["Vary"] = f"{vary}, Accept-Encoding" if vary else "Accept-Encoding"
    # Most callers that take none do not even send the header, and taking it apart costs.
    said = request.environ.get("HTTP_ACCEPT_ENCODING")
    if not said or request.accept_encodings.quality("gzip") <= 0:
        return
    body: Any = response.response
    if isinstance(body, list):
        response.set_data(gzip.compress(b"".join(body), _LEVEL, mtime=0))
    else:
        response.response = _Zipped(body)
    headers["Content-Encoding"] = "gzip"
    if headers.get("ETag", "").startswith('"'):
        # Other bytes than those of the strong tag, of the same version.
        headers["ETag"] = f"W/{headers['ETag']}"


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
