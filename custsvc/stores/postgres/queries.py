"""Reading customers from PostgreSQL: one, a page of a list, how many there are, the history of one.

The server joins the documents of a page: for 100 of them that is a third of the cost of rows. A page starts
at its position in the sort's index, so it costs the same at any depth. Queries with words or other filters
are sent as text with their values, so that the planner can estimate how many rows match.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from functools import cache
from time import monotonic
from typing import Any, Final, Literal, NamedTuple

from ...domain.customers import INT64_MAX, Stored, format_time
from ...domain.email_key import email_key
from ...domain.name_key import is_name_key, name_prefix
from ...domain.search import Words, after_prefix, metadata_terms
from ...ports.customers import (
    LIVE,
    CustomerFilter,
    CustomerQuery,
    Deleted,
    Page,
    Position,
    SortField,
    TimeSpan,
)
from .connection import Connections, Statement
from .counts import DELETED, Counts
from .refill import PostgresRefilling


class _Key(NamedTuple):
    """The expression that an index sorts by, and its type."""

    sql: str
    type: str


# The order of a page: a field, or the name as it is written.
_Order = SortField | Literal["written_name"]
_KEYS: dict[_Order, _Key] = {
    "id": _Key("id", "bigint"),
    # Customers just written by a process of an earlier release have no key yet, and come first.
    "name": _Key("coalesce(name_key, '') COLLATE \"C\"", "text"),
    "written_name": _Key('name COLLATE "C"', "text"),
    "email": _Key("coalesce(email, '') COLLATE \"C\"", "text"),
    "created_on": _Key("created_on", "timestamptz"),
    "updated_on": _Key("updated_on", "timestamptz"),
    "version": _Key("version", "bigint"),
}
# The indexes for lists and searches; a copy without lists does not have them. One for each order of a list;
# text sorts by code points, as in MongoDB. The pending list of the index of terms is kept short, because each
# search reads all of it.
LIST_INDEXES: Final = {
    "customer_terms": "USING gin (terms) WITH (gin_pending_list_limit = 256)",
    # `customer_name` is the index of earlier releases, on names as they are written.
    "customer_name_key": f"({_KEYS['name'].sql}, id)",
    **{
        f"customer_{sort.removesuffix('_on')}": f"({key.sql}, id)"
        for sort, key in _KEYS.items()
        if sort not in ("id", "name", "written_name")
    },
    "customer_email_key": "(custsvc_email_key(email)) WHERE email IS NOT NULL",
}
# The limit is part of the text, so that the planner knows it; only pages of these sizes are prepared.
_PREPARED_LIMITS = frozenset((10, 20, 25, 50, 100, 200))

_LOOKED_UP_FROM = 3

_GET = Statement("get_customer", "bigint", "SELECT version, deleted, doc FROM customer WHERE id = $1")
_GET_MANY = Statement(
    "get_customers", "bigint[]", "SELECT id, version, deleted, doc FROM customer WHERE id = ANY($1)"
)
_BY_EMAILS = "FROM customer WHERE custsvc_email_key(email) = ANY($1) AND email IS NOT NULL"
_GET_BY_EMAILS = Statement(
    "get_by_emails",
    "text[]",
    f"SELECT id, version, deleted, doc {_BY_EMAILS} ORDER BY id",
)
_SPELLED = Statement("spelled_emails", "text[]", f"SELECT DISTINCT email {_BY_EMAILS}")
_HISTORY = Statement(
    "history",
    "bigint, bigint, integer",
    "SELECT payload FROM customer_event WHERE customer_id = $1 AND version < $2 "
    "ORDER BY version DESC LIMIT $3",
)
_EVENT_AT = Statement(
    "event_at",
    "bigint, timestamptz",
    "SELECT payload FROM customer_event WHERE customer_id = $1 AND created <= $2 "
    "ORDER BY version DESC LIMIT 1",
)


# In the planner's units. A count of this cost takes about 20 ms: all of 300,000 customers.
_CHEAP: Final = 10_000.0
# The planner assumes that 0.5 % of the customers have a word that it does not know, and walks the list until
# a page is full: through all of a million if no customer has it. Up to this number of expected rows the query
# uses the index of terms and sorts instead. Of more than four millions 0.5 % are more than that, so where
# words may be unknown to the planner the customers are counted, up to a number at which a walk is as cheap.
_FEW: Final = 20_000
# Twice that, because the number of all customers is a minute old.
_UNKNOWN: Final = 0.01
_COUNTED: Final = 8000
# Seconds.
_ALL_KEPT: Final = 60.0


class PostgresQueries:
    """The reading half of the port `CustomerStore` on PostgreSQL."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self.refilling = PostgresRefilling(connections)
        # About how many customers there are, and until when that is good enough.
        self._all = (0, 0.0)
        self._counts = Counts(connections)

    def get(self, customer_id: int) -> Stored | None:
        for version, deleted, doc in self._connections.read(_GET, (customer_id,)):
            return Stored(customer_id, version, deleted, doc.encode())
        return None

    def get_many(self, ids: Sequence[int]) -> dict[int, Stored]:
        rows = self._connections.read(_GET_MANY, (list(ids),))
        return {row[0]: Stored(row[0], row[1], row[2], row[3].encode()) for row in rows}

    def get_by_emails(self, emails: Sequence[str]) -> list[Stored]:
        rows = self._connections.read(_GET_BY_EMAILS, ([email_key(each) for each in emails],))
        return [Stored(row[0], row[1], row[2], row[3].encode()) for row in rows]

    def find(self, query: CustomerQuery) -> Page:
        # Reading backward means the opposite order, from the same position.
        down = query.descending != query.backward
        after, order = query.after, self._order(query)
        if query.filter.is_plain and query.limit in _PREPARED_LIMITS:
            statement = _page(order, query.limit, down, query.backward, query.filter.deleted, bool(after))
            params = () if after is None else (after.id,) if query.sort == "id" else tuple(after)
            ((docs, count, more, *ends),) = self._connections.read(statement, params or (True,))
        else:
            where, values = self._where(query.filter)
            if after is not None:
                where.append(_following(order, down))
                values += [after.id] if query.sort == "id" else after
            asked, source = query.filter, f"customer WHERE {' AND '.join(where)}"
            if (asked.words or asked.phrases or asked.metadata) and self._are_few(asked):
                source = f"(SELECT * FROM {source} OFFSET 0) AS customer"  # noqa: S608 - constants
            sql = _page_sql(order, query.limit, down, query.backward, source)
            ((docs, count, more, *ends),) = self._connections.query(sql, values)
        if not count:
            return Page(b"", 0, None, None, False)
        first_key, first_id, last_key, last_id = ends
        return Page(docs.encode(), count, _position(first_key, first_id), _position(last_key, last_id), more)

    def _are_few(self, asked: CustomerFilter) -> bool:
        expected, _ = self._planned(asked)
        return expected <= _FEW or self._counted_few(asked, expected) is not None

    def _counted_few(self, asked: CustomerFilter, expected: int) -> int | None:
        """How many customers meet a filter, counted where the planner may not know its words.

        None if they are more than `_COUNTED`, or the planner expects so many that it knows one of the words.
        """
        terms = sum(query.count("'") // 2 for _, query in _term_conditions(asked))
        if not terms or expected > _UNKNOWN * terms * self._about_all():
            return None
        conditions, values = self._where(asked)
        found = f"SELECT FROM customer WHERE {' AND '.join(conditions)} LIMIT {_COUNTED + 1}"
        ((count,),) = self._connections.query(f"SELECT count(*) FROM ({found}) AS found", values)  # noqa: S608
        return int(count) if count <= _COUNTED else None

    def _about_all(self) -> int:
        """About how many customers there are, as of a minute ago at most."""
        count, until = self._all
        if monotonic() > until:
            count = self._planned(CustomerFilter("include"))[0]
            self._all = count, monotonic() + _ALL_KEPT
        return count

    def _order(self, query: CustomerQuery) -> _Order:
        """Sort by names as they are written while some have no key, and for lists that began like this."""
        if query.sort == "name" and not (
            is_name_key(query.after.key) if query.after else self.refilling.is_over()
        ):
            return "written_name"
        return query.sort

    def count(self, where: CustomerFilter = LIVE, *, exact: bool = True) -> int:
        if not exact:
            return self._planned(where)[0]
        conditions, values = self._where(where)
        sql = "SELECT count(*) FROM customer WHERE " + " AND ".join(conditions)  # noqa: S608 - constants
        ((count,),) = self._connections.query(sql, values)
        return int(count)

    def count_if_cheap(self, where: CustomerFilter) -> tuple[int, bool]:
        if where.is_plain and (known := self._counts.known(where.deleted)) is not None:
            return known, True
        # Not a count with a LIMIT: that bounds the rows found, not the rows read. Of a million customers a
        # count up to 10,000 took 0.8 ms if all matched the filter, and 320 ms if none did and no index
        # helped. The planner reports in 0.15 ms that both would be expensive.
        rows, cost = self._planned(where)
        if cost <= _CHEAP:
            return self._counts.count(where.deleted) if where.is_plain else self.count(where), True
        few = self._counted_few(where, rows)
        return (rows, False) if few is None else (few, True)

    def _planned(self, where: CustomerFilter) -> tuple[int, float]:
        """How many rows the planner expects, and the cost of reading them."""
        conditions, values = self._where(where)
        sql = "SELECT 1 FROM customer WHERE " + " AND ".join(conditions)  # noqa: S608 - constants
        ((plan,),) = self._connections.query("EXPLAIN (FORMAT JSON) " + sql, values)
        return int(plan[0]["Plan"]["Plan Rows"]), float(plan[0]["Plan"]["Total Cost"])

    def _where(self, asked: CustomerFilter) -> tuple[list[str], list[Any]]:
        """The conditions of a filter, and their values."""
        where, values = _conditions(self.refilling.now(asked))
        if asked.email is not None:
            # The addresses as stored: the planner has statistics on these.
            spelled = [row[0] for row in self._connections.read(_SPELLED, ([email_key(asked.email)],))]
            where.append(f"{_KEYS['email'].sql} = ANY(%s)")
            values.append(spelled)
        return where, values

    def history(self, customer_id: int, *, limit: int, before_version: int | None = None) -> list[bytes]:
        params = (customer_id, before_version if before_version is not None else INT64_MAX, limit)
        return [row[0].encode() for row in self._connections.read(_HISTORY, params)]

    def event_at(self, customer_id: int, time: dt.datetime) -> bytes | None:
        for (payload,) in self._connections.read(_EVENT_AT, (customer_id, time)):
            return bytes(payload.encode())
        return None


def _position(key: Any, customer_id: int) -> Position:
    return Position(format_time(key) if isinstance(key, dt.datetime) else key, customer_id)


@cache
def _page(sort: _Order, limit: int, down: bool, backward: bool, deleted: Deleted, after: bool) -> Statement:
    where, types = DELETED[deleted], "boolean"
    if after:
        following = _following(sort, down)
        where = f"{following.replace('%s', '$1', 1).replace('%s', '$2', 1)} AND {where}"
        types = "bigint" if sort == "id" else f"{_KEYS[sort].type}, bigint"
    else:
        where += " AND $1"
    name = f"page_{sort}_{limit}_{down:d}{backward:d}{after:d}_{deleted}"
    return Statement(name, types, _page_sql(sort, limit, down, backward, f"customer WHERE {where}"))


def _following(sort: _Order, down: bool) -> str:
    than = "<" if down else ">"
    return f"id {than} %s" if sort == "id" else f"({_KEYS[sort].sql}, id) {than} (%s, %s)"


def _page_sql(sort: _Order, limit: int, down: bool, backward: bool, source: str) -> str:
    """SQL for one row: the documents, their number, whether there are more, and the ends' keys and ids.

    It reads one row more than the page, to see whether there are more.
    """
    read, shown = _ordered(sort, down), _ordered(sort, down != backward)
    if sort == "id":
        lowest_first = "min(id), min(id), max(id), max(id)"
        ends = "max(id), max(id), min(id), min(id)" if down != backward else lowest_first
    else:
        end = "(SELECT {} FROM shown ORDER BY {} LIMIT 1)"
        other = _ordered(sort, down == backward)
        ends = ", ".join(end.format(what, order) for order in (shown, other) for what in ("key", "id"))
    key = "" if sort == "id" else f"{_KEYS[sort].sql} AS key, "
    read_key = "id" if sort == "id" else f"{_KEYS[sort].sql}"
    direction = " DESC" if down else ""
    inner = f"{read_key}{direction}" + ("" if sort == "id" else f", id{direction}")
    return f"""
        WITH page AS MATERIALIZED (
            SELECT {key}id, doc FROM {source} ORDER BY {inner} LIMIT {limit + 1}
        ), shown AS MATERIALIZED (SELECT * FROM page ORDER BY {read} LIMIT {limit})
        SELECT string_agg(doc, ',' ORDER BY {shown}), count(*), (SELECT count(*) FROM page) > {limit}, {ends}
        FROM shown
    """  # noqa: S608 - constants of this module, and places for values


def _ordered(sort: _Order, down: bool) -> str:
    direction = " DESC" if down else ""
    return f"id{direction}" if sort == "id" else f"key{direction}, id{direction}"


def _conditions(asked: CustomerFilter) -> tuple[list[str], list[Any]]:
    """The conditions of a filter, except that on the address, and their values."""
    where: list[str] = ["false"] if asked.nobody else [DELETED[asked.deleted]]
    values: list[Any] = []
    for condition, query in _term_conditions(asked):
        where.append(condition)
        values.append(query)
    _add_prefix(where, values, "name", name_prefix(asked.name_prefix or ""))
    _add_prefix(where, values, "written_name", asked.written_prefix or "")
    _add_span(where, values, "created_on", asked.created)
    _add_span(where, values, "updated_on", asked.updated)
    return where, values


def _add_prefix(where: list[str], values: list[Any], order: _Order, prefix: str) -> None:
    end = after_prefix(prefix)
    for sign, bound in ((">=", prefix), ("<", end)):
        if bound:
            where.append(f"{_KEYS[order].sql} {sign} %s")
            values.append(bound)


def _add_span(where: list[str], values: list[Any], column: str, span: TimeSpan) -> None:
    for sign, time in ((">=", span.since), ("<", span.before)):
        if time is not None:
            where.append(f"{column} {sign} %s")
            values.append(time)


def _term_conditions(asked: CustomerFilter) -> list[tuple[str, str]]:
    """The conditions on terms, each with its tsquery: those that use the index, and those that do not.

    So many words begin with a given prefix of one or two characters that the index is slower than checking
    the customers found by the other words.
    """
    required = [*(((word,),) for word in asked.words), *asked.phrases]
    looked_up = [_any_of(long) for alternatives in required if (long := _long(alternatives))]
    exact = [_any_of(alternatives) for alternatives in required if _long(alternatives) != alternatives]
    if asked.earlier and required:
        every = " & ".join(map(_any_of, required))
        exact = [f"({every} | {_any_of((asked.earlier,))})"]
        earlier = _long((asked.earlier,))
        looked_up = [f"({' & '.join(looked_up)} | {_any_of(earlier)})"] if looked_up and earlier else []
    looked_up += [_metadata(key, text) for key, text in asked.metadata]
    if not looked_up:
        looked_up, exact = exact, []
    conditions = [("terms @@ %s::tsquery", " & ".join(looked_up))] if looked_up else []
    # An expression instead of the column, so that no index is used.
    return conditions + ([("strip(terms) @@ %s::tsquery", " & ".join(exact))] if exact else [])


def _long(alternatives: tuple[Words, ...]) -> tuple[Words, ...]:
    """The alternatives, each with its words that use the index; none if one alternative has no such word."""
    long = tuple(
        tuple(word for word in alternative if len(word) >= _LOOKED_UP_FROM) for alternative in alternatives
    )
    return long if all(long) else ()


def _begins(word: str) -> str:
    return f"'{word}':*"  # terms hold neither quotes nor backslashes


def _any_of(alternatives: tuple[Words, ...]) -> str:
    return (
        "(" + " | ".join(f"({' & '.join(map(_begins, alternative))})" for alternative in alternatives) + ")"
    )


def _metadata(key: str, text: str) -> str:
    return "(" + " | ".join(f"'{term}'" for term in metadata_terms(key, text)) + ")"
