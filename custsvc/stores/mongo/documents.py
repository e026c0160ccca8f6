"""A customer as a document: `doc` is authoritative, the other fields exist for queries."""

from __future__ import annotations

import datetime as dt

from bson import Int64
from pymongo import UpdateOne
from pymongo.database import Database

from ...domain.customers import Customer, Fields
from ...domain.name_key import name_key
from ...domain.received import ReceivedEvent
from ...domain.search import terms_of
from ...runtime import crash
from .connection import Document

_FILLED_AT_ONCE = 1000


def plain_document(customer: Customer, doc: bytes) -> Document:
    """The document of a customer whose canonical JSON is `doc`."""
    f = customer.fields
    return {
        # Explicit Int64: a number's BSON type must not depend on its size.
        "_id": Int64(customer.id),
        "version": Int64(customer.version),
        "deleted": customer.deleted,
        "name": f.name,
        "email": f.email,
        "phone": f.phone,
        "created_on": customer.created_on,
        "updated_on": customer.updated_on,
        "doc": doc.decode(),
        "terms": _terms(f),
        "name_key": name_key(f.name),
        "keyed": Int64(customer.version),
    }


def fill_terms(database: Database[Document]) -> None:
    """Add terms to customers that were stored before terms existed."""
    customers = database["customer"]
    while found := list(customers.find({"terms": {"$exists": False}}, {"doc": 1}, limit=_FILLED_AT_ONCE)):
        customers.bulk_write(
            [
                UpdateOne(
                    {"_id": each["_id"]}, {"$set": {"terms": _terms(Customer.decode(each["doc"]).fields)}}
                )
                for each in found
            ],
            ordered=False,
        )
        crash.point("migrate.filling")


def _terms(fields: Fields) -> list[str]:
    return terms_of(fields.name, fields.email, fields.phone, fields.metadata)


def received_document(event: ReceivedEvent) -> Document:
    """The document of the customer that an event brings."""
    after = event.after
    return {
        "_id": Int64(after["id"]),
        "version": Int64(after["version"]),
        "deleted": after["deleted"],
        "name": after["name"],
        "email": after["email"],
        "phone": after["phone"],
        "created_on": dt.datetime.fromisoformat(after["created_on"]),
        "updated_on": dt.datetime.fromisoformat(after["updated_on"]),
        "doc": event.doc().decode(),
        "terms": terms_of(after["name"], after["email"], after["phone"], after["metadata"]),
        "name_key": name_key(after["name"]),
        "keyed": Int64(after["version"]),
    }
