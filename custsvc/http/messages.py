"""Reads requests and writes answers: parameters, bodies, entity tags, pages.

Customers and events pass through as stored bytes. They are never decoded and encoded again.
"""

from __future__ import annotations

import codecs
import datetime as dt
import json
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from ..domain.customers import INT64_MAX, Stored
from ..domain.strict_json import DuplicateKey, parse_json
from ..domain.text import as_json
from ..errors import FieldError
from ..service.idempotency import Keyed
from .answer import Answer
from .problems import Problem, bad_parameter
from .request import Request

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"

LIMIT_MAX: Final = 200
LIMIT_DEFAULT: Final = 50

_CACHE: Final = ("Cache-Control", "private, no-cache")
_UPDATED_ON: Final = b'"updated_on":"'
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


# -- parameters --------------------------------------------------------------------------------------------


def parameters(
    request: Request, *allowed: str, prefix: str | None = None, many: str | None = None
) -> dict[str, str]:
    """The query's parameters: those allowed, and any that begin with `prefix`.

    `many` may be there more than once; it is left out here. Raises Problem for an unknown or repeated one.
    """
    if not request.query_string:
        return {}
    found: dict[str, str] = {}
    for name, value in request.query:
        if name == many:
            continue
        if name not in allowed and not (prefix and name.startswith(prefix)):
            names = (*allowed, many) if many else allowed
            known = f"there are {', '.join(names)}" if names else "this path has none"
            detail = f"there is no parameter {name!r}; {known}"
            raise Problem(
                400, "unknown-parameter", detail, errors=[FieldError(name, "unknown", "is unknown")]
            )
        if name in found:
            raise bad_parameter(name, "is there twice")
        found[name] = value
    return found


def limit_of(given: Mapping[str, str]) -> int:
    """The requested page size."""
    text = given.get("limit", str(LIMIT_DEFAULT))
    if not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= LIMIT_MAX:
        raise bad_parameter("limit", f"must be a number from 1 to {LIMIT_MAX}")
    return int(text)


def word_of(given: Mapping[str, str], name: str, words: Sequence[str], default: str) -> str:
    """A parameter whose value is one of these words."""
    value = given.get(name, default)
    if value not in words:
        raise bad_parameter(name, f"must be {', '.join(words[:-1])} or {words[-1]}")
    return value


# -- bodies ------------------------------------------------------------------------------------------------


def unsupported_type(request: Request, *types: str) -> Problem:
    """The problem of a body of a type not in this list."""
    return Problem(
        415,
        "unsupported-media-type",
        f"the body must be {' or '.join(types)}, its Content-Type is {request.media_type or 'none'}",
        headers=[("Accept-Patch" if MERGE_PATCH in types else "Accept-Post", ", ".join(types))],
    )


def json_body(request: Request, *types: str) -> Any:
    """The request's body, parsed. Raises Problem for a wrong type and for invalid JSON."""
    if request.media_type not in types:
        raise unsupported_type(request, *types)
    try:
        return parse_json(request.data.removeprefix(codecs.BOM_UTF8).decode())
    except DuplicateKey as exc:
        raise Problem(400, "bad-json", f"an object of the body has the key {str(exc)!r} twice") from exc
    except UnicodeDecodeError as exc:
        raise Problem(400, "bad-json", "the body is not UTF-8") from exc
    except json.JSONDecodeError as exc:
        raise Problem(400, "bad-json", f"{exc.msg} at line {exc.lineno} column {exc.colno}") from exc
    except ValueError as exc:
        raise Problem(400, "bad-json", "a number in the body is not finite, or has too many digits") from exc
    except RecursionError as exc:
        raise Problem(400, "bad-json", "the body is nested too deeply") from exc


def wants_minimal(request: Request) -> bool:
    """Whether the caller asked for an answer without a body (RFC 7240)."""
    prefer = request.environ.get("HTTP_PREFER")
    return bool(prefer) and any(
        part.strip().replace(" ", "").lower() == "return=minimal" for part in re.split("[,;]", prefer or "")
    )


_PRINTABLE: Final = re.compile(r"[\x21\x23-\x7e]{1,255}")


def keyed_request(request: Request) -> Keyed | None:
    """The request with its Idempotency-Key, None without one. Raises Problem for a malformed key."""
    key = idempotency_key(request)
    if key is None:
        return None
    asked = asked_hash(request)
    asked.update(request.data)
    return Keyed(request.principal.id, key, asked.digest())


def asked_hash(request: Request) -> Any:
    """A hash of the request without its body, which the caller adds."""
    path = request.environ["PATH_INFO"].rstrip("/")
    return sha256(f"{request.method} {path}?{request.query_string}\n".encode())


def idempotency_key(request: Request) -> str | None:
    """The Idempotency-Key, or None. Raises Problem for a malformed one."""
    header: str | None = request.environ.get("HTTP_IDEMPOTENCY_KEY")
    if header is None:
        return None
    key = header.strip()
    if len(key) > 2 and key[0] == key[-1] == '"':
        key = key[1:-1]  # a string as of RFC 8941, as the header's draft requires
    elif len(same := {each.strip() for each in key.split(",")}) == 1:
        key = same.pop()  # servers and proxies join a header that is there twice by a comma
    if not _PRINTABLE.fullmatch(key):
        raise Problem(
            400, "bad-header", "Idempotency-Key must be 1 to 255 printable characters without spaces"
        )
    return key


_POSITION: Final = re.compile(r"([1-9][0-9]{0,18})-([1-9][0-9]{0,18})")
_WAIT: Final = re.compile(r"wait=([0-9]{1,4}(?:\.[0-9]{1,3})?)", re.IGNORECASE)


def min_position(request: Request, most: int) -> dict[int, int]:
    """The versions of customers that X-Custsvc-Min-Position requires, at most this many."""
    parts = request.environ["HTTP_X_CUSTSVC_MIN_POSITION"].split(",")
    found = [_POSITION.fullmatch(part.strip()) for part in parts]
    wanted = {int(m[1]): int(m[2]) for m in found if m}
    if not all(found) or len(parts) > most or max(*wanted, *wanted.values()) > INT64_MAX:
        raise Problem(400, "bad-header", "X-Custsvc-Min-Position must be an X-Custsvc-Position as it came")
    return wanted


def prefer_wait(request: Request) -> float:
    """The seconds of `Prefer: wait=N` (RFC 7240); 0 without it."""
    parts = re.split("[,;]", request.environ.get("HTTP_PREFER", ""))
    found = [m for part in parts if (m := _WAIT.fullmatch(part.replace(" ", "").replace('"', "")))]
    return float(found[0][1]) if found else 0.0


# -- answers -----------------------------------------------------------------------------------------------


def customer_answer(
    stored: Stored, status: int = 200, *, extra: Sequence[tuple[str, str]] = (), minimal: bool = False
) -> Answer:
    """The answer with a customer as stored and its entity tag; only the headers if `minimal`."""
    headers = [("ETag", f'"v{stored.version}"'), ("Last-Modified", last_modified(stored)), _CACHE, *extra]
    if minimal:
        headers.append(("Preference-Applied", "return=minimal"))
        return Answer(b"", 204 if status == 200 else status, headers)
    return Answer(stored.doc, status, headers, JSON)


def etag_answer(stored: Stored, status: int, *, extra: Sequence[tuple[str, str]] = ()) -> Answer:
    """An answer with the entity tag and no body, for 304 and 204."""
    return Answer(b"", status, [("ETag", f'"v{stored.version}"'), _CACHE, *extra])


def last_modified(stored: Stored) -> str:
    """The HTTP date of `updated_on`, read from the document without parsing it."""
    # Search from the end: the metadata, which comes earlier, may hold the same name.
    start = stored.doc.rindex(_UPDATED_ON) + len(_UPDATED_ON)
    text = stored.doc[start : start + 19].decode()
    day = dt.date.fromisoformat(text[:10])
    return f"{_DAYS[day.weekday()]}, {text[8:10]} {_MONTHS[day.month - 1]} {text[:4]} {text[11:]} GMT"


def page_answer(
    request: Request,
    docs: bytes,
    *,
    count: int | None,
    has_more: bool,
    count_estimated: bool = False,
    given: dict[str, str],
    following: str | None,
    preceding: str | None = None,
    more: Mapping[str, Any] | None = None,
) -> Answer:
    """One page of a list; `docs` is the inside of its array. Links to its neighbours keep the parameters.

    `more` are further members; `following` and `preceding` are the neighbours' cursors, or None.
    """
    others = {k: v for k, v in given.items() if k != "cursor"}
    links = {
        name: f"{request.path}?{urlencode({**others, 'cursor': cursor})}" if cursor else None
        for name, cursor in (("next", following), ("previous", preceding))
    }
    headers = [_CACHE]
    for relation, name in (("next", "next"), ("prev", "previous")):
        if links[name]:
            headers.append(("Link", f'<{links[name]}>; rel="{relation}"'))
    estimated = {"count_estimated": True} if count_estimated else {}
    head = orjson.dumps({"count": count, **estimated, **links, "has_more": has_more, **(more or {})})
    return Answer(b"".join((head[:-1], b',"results":[', docs, b"]}")), 200, headers, JSON)


def json_answer(value: Any, status: int = 200) -> Answer:
    """A JSON answer other than a customer."""
    return Answer(as_json(value), status, [_CACHE], JSON)
