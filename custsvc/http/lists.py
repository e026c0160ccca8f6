"""The query parameters of a list: filters, sort, fields, count, and the start of a page."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, cast, get_args

import orjson

from ..domain.canonical import canonical_email
from ..domain.customers import EMAIL_MAX, INT64_MAX, METADATA_VALUE_MAX, NAME_MAX
from ..domain.marks import normalized
from ..domain.name_key import name_prefix
from ..domain.search import Asked, asked
from ..errors import FieldError, ValidationError
from ..ports.customers import (
    LIVE,
    CustomerFilter,
    CustomerQuery,
    Deleted,
    Page,
    Position,
    SortField,
    TimeSpan,
)
from ..service.duplicates import Place
from .cursors import Cursors
from .messages import limit_of, word_of
from .problems import Problem, bad_parameter

Counting = Literal["exact", "estimated", "none"]
# The default: exact if that is cheap.
Counted = Counting | Literal["cheap"]

METADATA: Final = "metadata."
SIGNS: Final = ("gte", "gt", "lte", "lt")
_TIMES: Final = tuple(f"{name}__{sign}" for name in ("created", "updated") for sign in SIGNS)
FILTERS: Final = ("q", "email", "name__startswith", *_TIMES, "deleted")
PARAMETERS: Final = (*FILTERS, "sort", "fields", "count", "limit", "cursor")
FIELDS: Final = (
    *("id", "name", "email", "phone", "metadata", "deleted", "version"),
    *("created_on", "created_by", "updated_on", "updated_by"),
)
_SORTS: Final = get_args(SortField)
_COUNTINGS: Final = get_args(Counting)
# The text of the filter that most lists have.
_LIVE: Final = repr(LIVE)
_WORDS_MAX: Final = 20
_FIRST: Final = dt.datetime(2, 1, 1, tzinfo=dt.UTC)
_LAST: Final = dt.datetime(9998, 12, 31, tzinfo=dt.UTC)
_MILLISECOND: Final = dt.timedelta(milliseconds=1)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+ -]\d\d:\d\d)?)?")


@dataclass(frozen=True, slots=True)
class ListRequest:
    """A requested page. `scope` binds its cursors to this list, for all its pages."""

    query: CustomerQuery
    counting: Counted
    fields: tuple[str, ...] | None
    scope: str


def list_request(given: Mapping[str, str], cursors: Cursors) -> ListRequest:
    """The page that the parameters describe. Raises Problem 400."""
    asked = filter_of(given)
    sort, descending = sort_of(given.get("sort", "id"))
    scope = f"customers {_LIVE if asked is LIVE else repr(asked)} {sort} {descending}"
    after, backward = None, False
    if "cursor" in given:
        after, backward = _read_cursor(cursors.read(given["cursor"], scope))
    counting: str = "none" if after else "cheap"
    if "count" in given:
        counting = word_of(given, "count", _COUNTINGS, "exact")
    return ListRequest(
        CustomerQuery(limit_of(given), asked, sort, descending, after, backward),
        cast(Counted, counting),
        fields_of(given["fields"]) if "fields" in given else None,
        scope,
    )


def filter_of(given: Mapping[str, str]) -> CustomerFilter:
    """The filter that the parameters describe; other parameters are ignored.

    A `q` without any word matches no customer; neither does a name prefix without a comparable character.
    Raises Problem for a filter that would filter nothing: its sender wants fewer customers, not all.
    """
    if given.keys().isdisjoint(FILTERS) and not any(name.startswith(METADATA) for name in given):
        return LIVE
    text, prefix = (_filtering(given, name, NAME_MAX) for name in ("q", "name__startswith"))
    where = CustomerFilter(
        deleted=cast(Deleted, word_of(given, "deleted", get_args(Deleted), "exclude")),
        email=_email(_filtering(given, "email", EMAIL_MAX)),
        name_prefix=prefix,
        created=_span(given, "created"),
        updated=_span(given, "updated"),
        metadata=tuple(sorted(_metadata(given))),
        nobody=prefix is not None and not name_prefix(prefix),
    )
    return where if text is None else where.asking(_asked(text))


def _metadata(given: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name in given:
        if name.startswith(METADATA):
            if name == METADATA:
                raise _filters_nothing(name, "must name a key, as metadata.tier")
            yield name.removeprefix(METADATA), _text(given, name, METADATA_VALUE_MAX) or ""


def sort_of(text: str) -> tuple[SortField, bool]:
    """The field of a sort, and whether it descends: `-updated_on`."""
    field = text.removeprefix("-")
    if field not in _SORTS:
        known = ", ".join(_SORTS)
        raise bad_parameter("sort", f"must be one of {known}, with - before it to descend")
    return cast(SortField, field), text.startswith("-")


def fields_of(text: str) -> tuple[str, ...]:
    """The requested fields, in canonical order."""
    wanted = {name.strip() for name in text.split(",")}
    unknown = sorted(wanted.difference(FIELDS))
    if unknown:
        raise bad_parameter("fields", f"{unknown[0]!r} is not a field of a customer ({', '.join(FIELDS)})")
    return tuple(name for name in FIELDS if name in wanted)


def only_fields(docs: bytes, fields: tuple[str, ...]) -> bytes:
    """The documents of a page reduced to these fields."""
    customers: list[dict[str, Any]] = orjson.loads(b"[" + docs + b"]")
    return orjson.dumps([{name: each[name] for name in fields} for each in customers])[1:-1]


def neighbours(query: CustomerQuery, page: Page) -> tuple[Position | None, Position | None]:
    """The positions from which to read the next and the previous page; None if there is no such page.

    A request with a cursor came from a page on its other side, so that page exists. A page that has become
    empty has no ends, so its neighbours begin where it began, and include the customer that the cursor names.
    """
    came, down = query.after, query.descending
    more, before = (came, page.has_more) if query.backward else (page.has_more, came)
    following = page.last or (_beside(came, -1 if not down else 1) if came else None)
    preceding = page.first or (_beside(came, 1 if not down else -1) if came else None)
    return following if more else None, preceding if before else None


def _beside(place: Position, step: int) -> Position:
    """The position right before or after a customer."""
    return Position(place.key, min(place.id + step, INT64_MAX))


def cursor_of(position: Position, *, backward: bool) -> list[Any]:
    """The content of a cursor for a page's end."""
    return [position.key, position.id, int(backward)]


def _read_cursor(value: Any) -> tuple[Position, bool]:
    match value:
        case [str() | int() as key, int() as customer_id, 0 | 1 as backward]:
            return Position(key, customer_id), bool(backward)
    raise Problem(400, "bad-cursor", "take the cursor as a list's `next` or `previous` gave it")


def place_of(value: Any) -> Place:
    """The place in a walk over pairs of duplicates, out of a cursor. Raises Problem."""
    match value:
        case [int() as customer_id, int() as partner]:
            return Place(customer_id, partner)
    raise Problem(400, "bad-cursor", "take the cursor as `next` gave it")


def _text(given: Mapping[str, str], name: str, longest: int) -> str | None:
    text = given.get(name)
    if text is None:
        return None
    # Neither database accepts NUL, and a lone surrogate cannot be encoded.
    if len(text) > longest or "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
        raise bad_parameter(name, f"must be text of at most {longest} characters")
    return normalized("NFC", text)  # like the stored text


def _filtering(given: Mapping[str, str], name: str, longest: int) -> str | None:
    """A text parameter that filters customers."""
    text = _text(given, name, longest)
    if text is not None and not text.strip():
        raise _filters_nothing(name, "is empty, so it would filter nothing; leave it out for all customers")
    return text


def _filters_nothing(name: str, message: str) -> Problem:
    errors = [FieldError(name, "filters_nothing", message)]
    return Problem(400, "bad-parameter", f"{name}: {message}", errors=errors)


def _asked(text: str) -> Asked:
    found = asked(text)
    if len(found.words) + len(found.phrases) > _WORDS_MAX:
        raise bad_parameter("q", f"must have at most {_WORDS_MAX} words")
    return found


def _email(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return canonical_email(text) or text
    except ValidationError:
        return text  # matches no customer


def _span(given: Mapping[str, str], field: str) -> TimeSpan:
    # Times are whole milliseconds, so "after t" is "from the next one on".
    gte, gt, lte, lt = (time_of(given, f"{field}__{sign}") for sign in SIGNS)
    since = [time for time in (gte, gt and gt + _MILLISECOND) if time]
    before = [time for time in (lte and lte + _MILLISECOND, lt) if time]
    return TimeSpan(max(since, default=None), min(before, default=None))


def time_of(given: Mapping[str, str], name: str) -> dt.datetime | None:
    """A time parameter: a date, or RFC 3339, in UTC if it has no offset. Up to milliseconds."""
    text = given.get(name)
    if text is None:
        return None
    try:
        if not _TIME.fullmatch(text):
            raise ValueError(text)
        # An unencoded plus arrives as a space.
        time = dt.datetime.fromisoformat(re.sub(r" (?=\d\d:\d\d$)", "+", text) if len(text) > 16 else text)
        time = time.replace(tzinfo=dt.UTC) if time.tzinfo is None else time.astimezone(dt.UTC)
    except OverflowError:
        time = _FIRST if text < "5" else _LAST
    except ValueError as exc:
        raise bad_parameter(name, "must be a time like 2026-11-23T20:40:00Z") from exc
    # No customer is from outside this range, and adding a millisecond or an offset must still be valid.
    time = min(max(time, _FIRST), _LAST)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)
