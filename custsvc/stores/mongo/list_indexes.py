"""The indexes that lists and searches go by."""

from __future__ import annotations

import logging
from typing import Final

import pymongo
from pymongo import ASCENDING, IndexModel
from pymongo.collation import Collation

from ...ports.waiting import Waiting
from ...runtime import crash
from .conditions import FIELDS, TERMS, index_of
from .connection import UNLIMITED, Connection

logger = logging.getLogger(__name__)

# Finds an address in any case, and also a few similar ones.
ANY_CASE: Final = Collation("en", strength=2)
BY_EMAIL_KEY: Final = IndexModel([("email", ASCENDING)], name="email_any_case", collation=ANY_CASE)


def index_lists(connection: Connection, waiting: Waiting) -> bool:
    """Make the missing indexes for lists and searches; return whether any was missing.

    Writers do not wait meanwhile.
    """
    if not (missing := missing_indexes(connection)):
        return False
    names = [str(index.document["name"]) for index in missing]
    logger.info(
        "Making the indexes that lists and searches go by", extra={"action": "index", "indexes": names}
    )
    waiting.check()
    waiting.tell(f"{len(names)} indexes are being made: {', '.join(names)}")
    with connection.translated(), pymongo.timeout(UNLIMITED):
        # In one command, so that the server reads all customers once.
        connection["customer"].create_indexes(missing)
    crash.point("migrate.listing")
    return True


def missing_indexes(connection: Connection) -> list[IndexModel]:
    """The missing indexes for lists."""
    sorts = [IndexModel(index_of(sort)) for sort in FIELDS if sort != "id"]
    wanted = [IndexModel(TERMS), *sorts, BY_EMAIL_KEY]
    with connection.translated():
        there = {index["name"] for index in connection["customer"].list_indexes()}
    return [index for index in wanted if index.document["name"] not in there]
