"""A change stream that only says "look again"; the outbox itself is what is read.

So nothing depends on it: a stream that cannot be opened, or whose place fell out of the oplog, costs some
milliseconds of delay and no event. It is opened while there is nothing to do, and closed at the first ring,
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

# Seconds that one wait may take: a wish to stop is heard after it.
WAIT = 0.5
# A stream that failed is not opened again before this.
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

        The call that opens the stream returns at once: what was written before is to be looked for first.
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
