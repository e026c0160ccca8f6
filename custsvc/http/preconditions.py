"""Preconditions of a request (RFC 9110, section 13): all of them are honoured, or the request is refused.

A customer's validators are its entity tag, `"v3"`, and the time of its last change in whole seconds. The tag
is also accepted in the forms that a compressing proxy gives it: weak, or with the coding's name appended.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from werkzeug.http import parse_date

from ..domain.customers import INT64_MAX, Stored
from .problems import Problem
from .request import Request

# A list of entity tags, weak ones included. The quantifiers are possessive, so a mismatch fails at once,
# without backtracking.
_TAG: Final = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_TAGS: Final = re.compile(rf"[ \t]*+{_TAG}[ \t]*+(?:,[ \t]*+(?:{_TAG}[ \t]*+)?)*+")
_ONE_TAG: Final = re.compile(_TAG)
_OUR_TAG: Final = re.compile(r'(?:W/)?"v([1-9][0-9]{0,18})(?:--?(?:gzip|br|deflate|zstd))?"')

_HEADERS: Final = {
    "HTTP_IF_MATCH": "If-Match",
    "HTTP_IF_NONE_MATCH": "If-None-Match",
    "HTTP_IF_UNMODIFIED_SINCE": "If-Unmodified-Since",
    "HTTP_IF_MODIFIED_SINCE": "If-Modified-Since",
}
_GUARDS: Final = ("HTTP_IF_MATCH", "HTTP_IF_UNMODIFIED_SINCE")
_SAFE: Final = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, slots=True)
class Preconditions:
    """A request's preconditions on its customer; None for each that it does not have.

    An empty set of versions stands for tags that are not ours: no customer has one.
    """

    match: frozenset[int] | None = None
    none_match: frozenset[int] | None = None
    not_there: bool = False
    unmodified_since: dt.datetime | None = None

    @property
    def version(self) -> int | None:
        """The only acceptable version, if there is no other precondition."""
        alone = self.none_match is None and not self.not_there and self.match and len(self.match) == 1
        return next(iter(self.match)) if alone and self.match else None

    def broken_by(self, stored: Stored) -> str | None:
        """The header whose precondition the current customer fails."""
        if self.match is not None and stored.version not in self.match:
            return "If-Match"
        if self.unmodified_since is not None and _changed_on(stored) > self.unmodified_since:
            return "If-Unmodified-Since"
        there = self.not_there and not stored.deleted
        if there or (self.none_match is not None and stored.version in self.none_match):
            return "If-None-Match"
        return None


NONE: Final = Preconditions()


def preconditions(request: Request) -> Preconditions:
    """The preconditions of a request; for a read only those that guard it, as the others lead to 304.

    Raises Problem for a malformed one: it must not be ignored. If-Unmodified-Since counts only without
    If-Match, as it is less exact.
    """
    environ = request.environ
    if environ.keys().isdisjoint(_HEADERS):
        return NONE
    match = _versions(environ, "HTTP_IF_MATCH")
    since = _date(environ, "HTTP_IF_UNMODIFIED_SINCE") if "HTTP_IF_UNMODIFIED_SINCE" in environ else None
    if "HTTP_IF_MATCH" in environ:
        since = None
    if environ["REQUEST_METHOD"] in _SAFE or "HTTP_IF_NONE_MATCH" not in environ:
        return Preconditions(match, unmodified_since=since)
    none_match = _versions(environ, "HTTP_IF_NONE_MATCH")
    return Preconditions(match, none_match, not_there=none_match is None, unmodified_since=since)


def refuse_unsupported(request: Request, *, conditional: bool) -> None:
    """Raise Problem 501 for a precondition of the request that its path cannot honour.

    Only a single customer has validators (`conditional`). A full answer to a read without validators is never
    wrong, so there only the guarding preconditions count.
    """
    environ = request.environ
    if environ.keys().isdisjoint(_HEADERS):
        return
    safe = environ["REQUEST_METHOD"] in _SAFE
    if conditional:
        names: tuple[str, ...] = () if safe else ("HTTP_IF_MODIFIED_SINCE",)
    else:
        names = _GUARDS if safe else tuple(_HEADERS)
    for name in names:
        if name in environ:
            raise Problem(
                501,
                "precondition-not-supported",
                f"{_HEADERS[name]} is not supported here, and nothing was done; leave it out",
            )


def not_modified(request: Request, stored: Stored) -> bool:
    """Whether a reader already has this version. If-Modified-Since counts only without If-None-Match."""
    environ = request.environ
    if "HTTP_IF_NONE_MATCH" in environ:
        header = environ["HTTP_IF_NONE_MATCH"]
        return header.strip() == "*" or stored.version in _ours(header)
    since = parse_date(environ.get("HTTP_IF_MODIFIED_SINCE"))
    return since is not None and _changed_on(stored) <= since


def _versions(environ: Mapping[str, Any], name: str) -> frozenset[int] | None:
    """The versions of a header's tags; None if it is missing, or `*`."""
    header = environ.get(name)
    if header is None or header.strip() == "*":
        return None
    if not _TAGS.fullmatch(header):
        detail = f'{_HEADERS[name]} must be * or a list of entity tags, as "v3"'
        raise Problem(400, "bad-header", detail)
    return _ours(header)


def _ours(header: str) -> frozenset[int]:
    tags = (_OUR_TAG.fullmatch(tag) for tag in _ONE_TAG.findall(header))
    return frozenset(int(m[1]) for m in tags if m and int(m[1]) <= INT64_MAX)


def _date(environ: Mapping[str, Any], name: str) -> dt.datetime:
    date = parse_date(environ[name])
    if date is None:
        detail = f"{_HEADERS[name]} must be a date as Mon, 23 Nov 2026 20:40:00 GMT"
        raise Problem(400, "bad-header", detail)
    return date


def _changed_on(stored: Stored) -> dt.datetime:
    """When the customer last changed, as in Last-Modified."""
    return stored.customer().updated_on.replace(microsecond=0)
