"""Reads bodies: up to the limit of the route, in memory while small, and decoded from gzip.

There is one limit per route. It applies to the received and to the decoded bytes, however the body is sent:
with its length, in chunks, compressed. A longer body is answered 413, another encoding 415.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from tempfile import SpooledTemporaryFile
from typing import IO, Any, Final, cast

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.utils import get_content_length
from werkzeug.wsgi import LimitedStream

from .problems import Problem

# The default limit of a route.
BODY_MAX: Final = 1024 * 1024
# A longer body is written to an unnamed file, so that many slow bodies take no memory.
IN_MEMORY: Final = 64 * 1024
PIECE: Final = 64 * 1024
# Set in the environ of a request whose body was read before; it is then decoded and of known length.
TAKEN: Final = "custsvc.body"
# Headers of a body that is not just plain bytes of known length.
_ODD: Final = ("HTTP_TRANSFER_ENCODING", "HTTP_CONTENT_ENCODING")
_GZIP: Final = ("gzip", "x-gzip")
# Bytes per call: zlib copies the data after each member, and an empty member has only 20 bytes.
_FEED: Final = 16 * 1024
_MEMBERS_MAX: Final = 4096


def encoding_of(environ: dict[str, Any]) -> str:
    """The encoding of a body: "" or gzip. Raises Problem 415 for another one."""
    said = environ.get("HTTP_CONTENT_ENCODING", "").strip().lower()
    if said in ("", "identity"):
        return ""
    if said in _GZIP:
        return "gzip"
    raise Problem(
        415,
        "unsupported-media-type",
        f"the body's Content-Encoding is {said[:100]}; send it as gzip, or without one",
        headers=[("Accept-Encoding", "gzip")],
    )


def take(
    pieces: Iterator[bytes], limit: int, encoding: str, reserve: Callable[[int], None] | None = None
) -> tuple[IO[bytes], int]:
    """The body as a file at its beginning, and its length. Raises RequestEntityTooLarge, Problem 400.

    `reserve` is called with the number of bytes before they are stored.
    """
    if encoding:
        pieces = _decoded(_limited(pieces, limit), limit)
    file = cast(IO[bytes], SpooledTemporaryFile(IN_MEMORY))  # noqa: SIM115 - the caller closes it
    size = 0
    try:
        for piece in _limited(pieces, limit):
            if reserve is not None:
                reserve(len(piece))
            file.write(piece)
            size += len(piece)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file, size


def _limited(pieces: Iterator[bytes], limit: int) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > limit:
            raise RequestEntityTooLarge
        yield piece


def _decoded(pieces: Iterator[bytes], limit: int) -> Iterator[bytes]:
    """The pieces decoded from gzip, in parts no longer than a piece, and at most `limit` + 1 bytes."""
    member, members, left = _member(), 1, limit + 1
    for piece in pieces:
        for start in range(0, len(piece), _FEED):
            rest, more = piece[start : start + _FEED], False
            while rest or more:
                if member.eof:
                    member, members = _member(), members + 1
                    if members > _MEMBERS_MAX:
                        raise _bad_gzip(f"it has more than {_MEMBERS_MAX:,} members")
                most = min(PIECE, left)
                decoded = _decode(member, rest, most)
                left -= len(decoded)
                if decoded:
                    yield decoded
                rest = member.unused_data if member.eof else member.unconsumed_tail
                more = len(decoded) == most and not member.eof
    if not member.eof:
        raise _bad_gzip("it ends too early")


def _member() -> Any:
    return zlib.decompressobj(16 + zlib.MAX_WBITS)


def _decode(member: Any, data: bytes, most: int) -> bytes:
    try:
        return bytes(member.decompress(data, most))
    except zlib.error as exc:
        raise _bad_gzip(str(exc)) from exc


def _bad_gzip(why: str) -> Problem:
    return Problem(400, "bad-request", f"the body is not the gzip that its Content-Encoding says: {why}")


def length_of(environ: dict[str, Any]) -> int | None:
    """The length of a body in bytes, None if it is not known beforehand."""
    return get_content_length(
        http_content_length=environ.get("CONTENT_LENGTH"),
        http_transfer_encoding=environ.get("HTTP_TRANSFER_ENCODING"),
    )


def stream_of(environ: dict[str, Any], limit: int) -> IO[bytes]:
    """The body of a request, decoded. Raises RequestEntityTooLarge for one of more than `limit` bytes.

    `custsvc serve` has read it before; on any other server it is read when it is first used.
    """
    if TAKEN in environ:
        return cast(IO[bytes], environ["wsgi.input"])
    length = length_of(environ)
    if (length or 0) > limit:
        raise RequestEntityTooLarge
    if environ.keys().isdisjoint(_ODD):
        return cast(IO[bytes], LimitedStream(environ["wsgi.input"], length or 0))
    raw, encoding = environ["wsgi.input"], encoding_of(environ)
    if length is not None:
        raw = LimitedStream(raw, length)
    file, size = take(iter(lambda: raw.read(PIECE), b""), limit, encoding)
    environ["wsgi.input"] = environ[TAKEN] = file
    environ["CONTENT_LENGTH"] = str(size)
    return file
