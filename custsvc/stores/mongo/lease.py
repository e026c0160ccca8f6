"""A lock that expires by itself: a document with an owner and an end, by the server's clock."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pymongo
from pymongo import ReturnDocument
from pymongo.errors import PyMongoError

from ...errors import TemporaryError
from .connection import Connection

logger = logging.getLogger(__name__)


class Lease:
    """A lock in a collection. To hold it again, make a new Lease.

    Processes that give the same `group` hold it together; it then expires after the last one has left.
    """

    def __init__(
        self, connection: Connection, collection: str, name: str, seconds: float, *, group: str = ""
    ) -> None:
        self._connection = connection
        self._collection = connection[collection]
        self._name = name
        self._seconds = seconds
        self._is_shared = bool(group)
        self._owner = group or uuid.uuid4().hex
        self._lost = False
        self._renewed = 0.0

    @contextmanager
    def held(self) -> Iterator[bool]:
        """True within the block if the lock is ours, renewed by a thread; False if it is another's."""
        if not self._acquire():
            yield False
            return
        stop = threading.Event()
        renewing = threading.Thread(
            target=self._renew_until, args=(stop,), name=f"lease {self._name}", daemon=True
        )
        renewing.start()
        try:
            yield True
        finally:
            stop.set()
            renewing.join()
            if not self._is_shared:
                # During an outage of the server the lease expires by itself.
                with suppress(PyMongoError), pymongo.timeout(self._seconds):
                    self._collection.delete_one({"_id": self._name, "owner": self._owner})

    def check(self) -> None:
        """Return while the lock is ours. Raises TemporaryError when another took it."""
        # The thread renews well before this; it was late if this process or the server was suspended.
        if not self._lost and time.monotonic() - self._renewed > self._seconds / 2:
            with self._connection.translated():
                self._renew()
        if self._lost:
            raise TemporaryError(f"the {self._name} lease was lost to another process", dependency="mongo")

    def _acquire(self) -> bool:
        free = {"$lte": ["$until", "$$NOW"]}  # true if there is no `until` yet
        with self._connection.translated(), pymongo.timeout(self._seconds):
            self._renewed = time.monotonic()
            lease = self._collection.find_one_and_update(
                {"_id": self._name},
                [
                    {"$set": {"owner": {"$cond": [free, self._owner, "$owner"]}}},
                    {"$set": {"until": {"$cond": [self._is_ours(), self._end(), "$until"]}}},
                ],
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
        return lease is not None and bool(lease["owner"] == self._owner)

    def _renew(self) -> None:
        now = time.monotonic()
        with pymongo.timeout(self._seconds / 2):
            found = self._collection.update_one(
                {"_id": self._name, "owner": self._owner}, [{"$set": {"until": self._end()}}]
            )
        if found.matched_count:
            self._renewed = now
        else:
            self._lost = True

    def _renew_until(self, stop: threading.Event) -> None:
        while not self._lost and not stop.wait(self._seconds / 4):
            try:
                self._renew()
            except PyMongoError as exc:
                logger.debug("The lease %s could not be renewed: %s", self._name, exc)

    def _is_ours(self) -> dict[str, object]:
        return {"$eq": ["$owner", self._owner]}

    def _end(self) -> dict[str, object]:
        return {"$add": ["$$NOW", int(self._seconds * 1000)]}
