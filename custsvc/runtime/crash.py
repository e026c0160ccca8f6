"""Named points at which a process can be made to die as if by kill -9: `CUSTSVC_CRASH_AT=relay.acked:3`.

For tests of what a crash leaves behind. Each point stands between two steps of which the second must not be
lost when the process ends after the first. Without the variable a point costs one comparison.
"""

from __future__ import annotations

import os
import threading
from typing import Final

from ..errors import ConfigurationError

POINTS: Final = {
    "save.halfway": "a write's customer is stored in its transaction, its event is not yet",
    "save.stored": "a write is committed, its caller has no answer yet",
    "relay.read": "a batch is read from the outbox, nothing of it is sent",
    "relay.produced": "a batch is handed to Kafka's client, not all of it is acknowledged",
    "relay.overlapped": "a batch is handed to Kafka's client while the one before it is not acknowledged",
    "relay.acked": "a batch is acknowledged by Kafka, the outbox does not know it",
    "relay.marking": "a part of a batch is marked as sent, the rest is not",
    "relay.moving": "sent events are in the history, and are still carried by their customers (MongoDB)",
    "relay.saved": "a batch is sent and marked as sent",
    "relay.filled": "the places of what the topic lost are filled again, it is not behind them yet",
    "relay.held": "the relay holds back events so that the topic can grow, it has not asked the groups yet",
    "relay.drained": "all groups have read the old partitions, it is not decided to use the added ones",
    "relay.chosen": "it is decided to use the added partitions, the source does not have their number yet",
    "relay.grown": "the source has the new number of partitions, nothing is sent by it yet",
    "relay.joined": "the cursors of the shards are joined, the source is still divided",
    "grow.asked": "`topics grow` has stored what is wanted, the partitions are not added",
    "grow.added": "partitions are added to the topic, the relay does not use them yet",
    "grow.filling": "a part of the customers is sent once more after a growth",
    "replicate.taken": "records are taken from the topic, nothing is done with them",
    "replicate.dead_lettered": "bad records are on the dead-letter topic, the good ones are not applied",
    "replicate.writing": "a batch's rows are written in their transaction, which is not committed",
    "replicate.applied": "a batch is in the copy with its positions, its offsets are not committed",
    "consume.committed": "a consumer's batch is handled and its offsets are committed",
    "rebuild.filling": "a part of the source is in the new copy, how far it is was not noted",
    "rebuild.proven": "the new copy is what the source is, the old one serves",
    "rebuild.swapping": "the new copy is about to take the old one's place",
    "rebuild.renamed": "the new copy is in the old one's place, the positions are the old one's (MongoDB)",
    "notify.claimed": "mails are claimed from the ledger, nothing is done with them",
    "notify.connected": "the mail server has greeted",
    "notify.accepted-recipient": "the mail server takes the recipient, nothing is handed over",
    "notify.handed-over": "the ledger knows that a mail is about to be handed over, its text is not given",
    "notify.gave-text": "a mail's text is given, the server's answer is not there",
    "notify.answered": "the mail server has taken a mail, the ledger does not know it",
    "notify.settled": "the ledger knows how a mail ended",
    "maintain.archived": "outdated events are in an archive file that was read again, none is dropped",
    "maintain.dropping": "a part of the events of an archive file is dropped, the rest is not",
    "migrate.stepped": "a step of a migration is done and noted",
    "migrate.indexed": "a migration's index is made, that is not noted",
    "migrate.filling": "a part of the rows is filled in its transaction, which is not committed",
    "migrate.refilling": "some customers' terms are recomputed, those of the others are not",
    "migrate.listing": "an index of lists is made, the others are not (on MongoDB all are)",
}
EXIT_CODE: Final = 137  # that of a process which SIGKILL has ended

# What `_arm` has read from the environment: None before that, empty where nothing is to crash.
_at: str | None = None
_left = 0
_lock = threading.Lock()


def point(name: str) -> None:
    """End this process, with nothing cleaned up, if this is the pass of the point that was asked for."""
    global _left
    if _at is None:
        _arm()
    if name == _at:
        with _lock:
            _left -= 1
        if _left <= 0:
            os._exit(EXIT_CODE)


def _arm() -> None:
    global _at, _left
    name, _, number = os.environ.get("CUSTSVC_CRASH_AT", "").partition(":")
    if name and (name not in POINTS or not (number or "1").isdecimal()):
        raise ConfigurationError(
            f"CUSTSVC_CRASH_AT is {name}{':' if number else ''}{number}, which is no crash point",
            fix=f"name[:n] with one of {', '.join(POINTS)}; or unset it",
        )
    _at, _left = name, int(number or 1)
