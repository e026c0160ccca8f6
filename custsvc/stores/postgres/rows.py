"""A customer as a row: `doc` is authoritative, the other columns exist for queries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from psycopg2.extensions import cursor as Cursor  # noqa: N812 - it is a class
from psycopg2.extras import execute_values

from ...domain.customers import Customer, Fields, format_time
from ...domain.events import Change
from ...domain.name_key import name_key
from ...domain.received import ReceivedEvent
from ...domain.search import terms_of
from . import copying

COPIED: Final = (
    "id, version, deleted, name, email, phone, created_on, updated_on, doc, terms, name_key, keyed"
)
TYPES: Final = "bigint, bigint, boolean, text, text, text, timestamptz, timestamptz, text, tsvector, text"
_FILLED_AT_ONCE: Final = 1000
# The columns that a later version updates, from a row `excluded` or `incoming` of the same columns.
CHANGEABLE: Final = tuple(name for name in COPIED.split(", ") if name not in ("id", "created_on"))


def customer_row(customer: Customer, doc: bytes) -> tuple[Any, ...]:
    """The row of a customer whose canonical document is `doc`."""
    f = customer.fields
    return (
        customer.id,
        customer.version,
        customer.deleted,
        f.name,
        f.email,
        f.phone,
        format_time(customer.created_on),
        format_time(customer.updated_on),
        doc.decode(),
        tsvector(_terms(f)),
        name_key(f.name),
    )


def copied_customer(change: Change) -> str:
    """A customer's line for COPY, in the order of `COPIED`."""
    c, text = change.after, copying.text
    f = c.fields
    return (
        f"{c.id}\t{c.version}\t{c.deleted}\t{text(f.name)}\t{text(f.email)}\t{text(f.phone)}\t"
        f"{format_time(c.created_on)}\t{format_time(c.updated_on)}\t{copying.json(change.doc)}\t"
        f"{tsvector(_terms(f))}\t{text(name_key(f.name))}\t{c.version}\n"
    )


def copied_received(event: ReceivedEvent) -> str:
    """The line for COPY of the customer that an event brings."""
    a, text = event.after, copying.text
    terms = terms_of(a["name"], a["email"], a["phone"], a["metadata"])
    return (
        f"{a['id']}\t{a['version']}\t{a['deleted']}\t{text(a['name'])}\t{text(a['email'])}\t"
        f"{text(a['phone'])}\t{a['created_on']}\t{a['updated_on']}\t{copying.json(event.doc())}\t{tsvector(terms)}\t"
        f"{text(name_key(a['name']))}\t{a['version']}\n"
    )


def fill_terms(cursor: Cursor) -> int:
    """Add terms to some customers that were stored before terms existed; return how many."""
    cursor.execute(
        "SELECT doc FROM customer WHERE terms IS NULL LIMIT %s FOR UPDATE SKIP LOCKED", (_FILLED_AT_ONCE,)
    )
    customers = [Customer.decode(doc) for (doc,) in cursor.fetchall()]
    if customers:
        execute_values(
            cursor,
            "UPDATE customer AS c SET terms = n.terms::tsvector FROM (VALUES %s) AS n (id, terms) "
            "WHERE c.id = n.id",
            [(each.id, tsvector(_terms(each.fields))) for each in customers],
            page_size=_FILLED_AT_ONCE,
        )
    return len(customers)


def _terms(fields: Fields) -> list[str]:
    return terms_of(fields.name, fields.email, fields.phone, fields.metadata)


def tsvector(terms: Iterable[str]) -> str:
    """Terms as PostgreSQL reads a tsvector. No term holds a quote or a backslash."""
    joined = "' '".join(terms)
    return f"'{joined}'" if joined else ""
