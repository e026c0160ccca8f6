"""The collection of notifications and its indexes, as the migrations make them."""

from __future__ import annotations

from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.database import Database

from .connection import Document
from .records import COLLECTION

_INDEXES = [
    IndexModel(
        [("due", ASCENDING), ("position", ASCENDING)],
        name="due",
        partialFilterExpression={"due": {"$exists": True}},
    ),
    IndexModel(
        [("customer_id", ASCENDING), ("recipient", ASCENDING), ("version", ASCENDING)],
        name="unsettled",
        partialFilterExpression={"unsettled": True},
    ),
    IndexModel([("blocked_by", ASCENDING)], name="blocked", sparse=True),
    IndexModel([("lease_until", ASCENDING)], name="leased", sparse=True),
    IndexModel(
        [("updated_on", ASCENDING)],
        name="unpublished",
        partialFilterExpression={"state": "failed", "published": False},
    ),
    IndexModel([("state", ASCENDING), ("created_on", DESCENDING), ("position", DESCENDING)], name="state"),
    IndexModel(
        [("customer_id", ASCENDING), ("created_on", DESCENDING), ("position", DESCENDING)], name="customer"
    ),
    IndexModel([("created_on", DESCENDING), ("position", DESCENDING)], name="created"),
]


def create_notifications(database: Database[Document]) -> None:
    """The collection of notifications with its indexes. May be run again."""
    database[COLLECTION].create_indexes(_INDEXES)


def create_notification_records(database: Database[Document]) -> None:
    """The indexes for channels beside mail, and for a recipient's recent mails."""
    rows = database[COLLECTION]
    rows.update_many({"channel": {"$exists": False}}, {"$set": {"channel": "mail", "spared": 0}})
    # Each channel has its own senders, so that an outage of one does not delay the others.
    rows.create_indexes(
        [
            IndexModel(
                [("channel", ASCENDING), ("due", ASCENDING), ("position", ASCENDING)],
                name="due_of_channel",
                partialFilterExpression={"due": {"$exists": True}},
            ),
            IndexModel(
                [("recipient", ASCENDING), ("updated_on", ASCENDING)],
                name="recipient",
                partialFilterExpression={"state": "sent"},
            ),
        ]
    )
    if "due" in rows.index_information():
        rows.drop_index("due")


def create_notification_order(database: Database[Document]) -> None:
    """The indexes for the order of mails, by the first event that each reports.

    The index `unsettled` of the previous order stays: claims of an older version ask for it by name.
    """
    database[COLLECTION].create_indexes(
        [
            IndexModel(
                [
                    ("customer_id", ASCENDING),
                    ("recipient", ASCENDING),
                    ("first_version", ASCENDING),
                    ("version", ASCENDING),
                ],
                name="order",
                partialFilterExpression={"unsettled": True},
            )
        ]
    )


def create_notification_address(database: Database[Document]) -> None:
    """The index for mails by the beginning of their address."""
    database[COLLECTION].create_indexes(
        [IndexModel([("recipient", ASCENDING), ("created_on", ASCENDING)], name="address")]
    )
