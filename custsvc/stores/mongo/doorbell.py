"""A change stream that only signals "look again"; the relay reads the outbox itself.

So nothing depends on it: a stream that cannot be opened, or whose position fell out of the oplog, costs some
milliseconds of delay and no event. It is opened while there is nothing to do, and closed at the first change,
so that it costs a busy database nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress

import pymongo
from pymongo.change_stream import DatabaseChangeStream
from pymongo.errors import PyMongoError

from .connection import Connection, Document

logger = logging.getLogger(__name__)

# Most seconds of one wait: the caller looks for a stop request after it.
WAIT = 0.5
# Seconds before a failed stream is opened again.
_RETRY = 5.0
_WRITES = ("insert", "update", "replace")


class Doorbell:
    """Waits for writes to some collections."""

    def __init__(self, connection: Connection, collections: Sequence[str]) -> None:
        self._database = connection.database
        match = {"ns.coll": {"$in": list(collections)}, "operationType": {"$in": _WRITES}}
        self._pipeline: list[Document] = [{"$match": match}, {"$project": {"_id": 1}}]
        self._stream: DatabaseChangeStream[Document] | None = None
        self._not_before = 0.0

    def wait(self, seconds: float) -> None:
        """Return when something may have been written since the call before, or soon after `seconds`.

        The call that opens the stream returns at once: the caller must first look for earlier writes.
        """
        try:
            if self._stream is None:
                if time.monotonic() < self._not_before:
                    time.sleep(seconds)
                    return
                self._stream = self._database.watch(self._pipeline, max_await_time_ms=int(WAIT * 1000))
            elif self._stream.try_next() is not None:
                self.close()
        except PyMongoError as exc:
            logger.info(
                "No change stream, polling instead: %s",
                exc,
                extra={"action": "doorbell_failed", "code": getattr(exc, "code", None)},
            )
            self._not_before = time.monotonic() + _RETRY
            self.close()
            time.sleep(seconds)

    def close(self) -> None:
        if self._stream is not None:
            with suppress(PyMongoError), pymongo.timeout(1.0):
                self._stream.close()
            self._stream = None
