"""The port of the ledger: notifications, their states, and the results of all attempts.

These docstrings are the contract of both backends. The words for states that they and the senders share are
here too, and how far a claim looks, so that they cannot differ.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol

NotificationState = Literal[
    "queued",
    "claimed",
    "handing_over",
    "sent",
    "deferred",
    "failed",
    "unknown",
    "suppressed",
    "discarded",
]

# A later mail to the same recipient about the same customer waits while an earlier one is in these states. An
# unknown one does not block it: it may have arrived, and only an operator can find out.
UNSETTLED: Final = ("queued", "claimed", "handing_over", "deferred")
# Not a state but where unsettled deliveries are counted that wait for a paused webhook endpoint.
PAUSED: Final = "paused"
SETTLED: Final = ("sent", "failed", "unknown", "suppressed", "discarded")
# The states in which an operator may have a mail sent again, and those in which he may discard it.
RETRIABLE: Final = ("failed", "unknown", "suppressed", "discarded")
DISCARDABLE: Final = ("queued", "deferred", "failed", "unknown")
# The states in which old rows may be deleted.
PRUNABLE: Final = ("sent", "failed", "suppressed", "discarded")
# The states of a newer mail that is under way or has arrived: an older one would arrive after it.
AHEAD: Final = ("claimed", "handing_over", "sent")

# A claim looks at this many mails at a time. If nearly all are blocked, it goes on for this many rounds, or
# only a few once it has some.
LOOK_AT: Final = 500
ROUNDS: Final = 40
ENOUGH: Final = 2
# Seconds. No digest is delayed further; a later one was made by an older version with a wrong clock.
FARTHEST: Final = 8 * 86400.0

ERASED: Final = "(erased)"
# In the place of the text of a mail that was sent long ago.
NOT_KEPT: Final = "(the text is no longer kept)"

# The reason for a lease that ended after the hand-over: the mail may have arrived.
LOST_IN_HAND_OVER: Final = "the sender stopped while it handed the mail over; whether it arrived is not known"


_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
_REASON_MAX: Final = 2000


def storable(text: str) -> str:
    """`text` as both databases can hold it: NUL and lone surrogates become U+FFFD."""
    if "\x00" in text or not text.isascii():
        return _UNSTORABLE.sub("\ufffd", text)
    return text


def _clean(row: object, *names: str) -> None:
    """Make the text fields of a frozen row storable: no row may fail because of foreign text."""
    for name in names:
        text = getattr(row, name)
        if text is not None and (clean := storable(text)) is not text:
            object.__setattr__(row, name, clean)


@dataclass(frozen=True, slots=True)
class Notification:
    """One mail to one recipient because of one event: its content and its state.

    `id` is derived from (event, rule, recipient), so the same one is never queued twice; the Message-ID
    is derived from it. `channel` is `mail` or the name of another channel, which defines the meaning of
    `recipient`. `spared` counts the attempts before an operator's retry: they no longer count against the
    limit of tries. `entries` is the content of a digest so far: from `first_version`, which never changes, up
    to `version`. `request_id` and `traceparent` (both checked by `domain.requests`) are those of the request
    that caused its newest event.
    """

    id: str
    event_id: str
    customer_id: int | None
    version: int
    rule: str
    recipient: str
    subject: str
    text: str
    html: str | None
    state: NotificationState = "queued"
    attempts: int = 0
    next_at: dt.datetime | None = None
    reason: str | None = None
    token: str | None = None
    created_on: dt.datetime | None = None
    updated_on: dt.datetime | None = None
    channel: str = "mail"
    spared: int = 0
    entries: str | None = None
    first_version: int | None = None
    request_id: str | None = None
    traceparent: str | None = None

    @property
    def order(self) -> int:
        """Its order among the mails about its customer: the version of the first event that it reports."""
        return self.version if self.first_version is None else self.first_version

    def __post_init__(self) -> None:
        _clean(self, "event_id", "recipient", "subject", "text", "html", "reason", "entries")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to send: its start, result and duration, and the mail server's code and text."""

    number: int
    tried_on: dt.datetime
    outcome: NotificationState
    code: int | None
    text: str | None
    duration: float


@dataclass(frozen=True, slots=True)
class Settlement:
    """The result of an attempt for a claimed notification.

    With `count_attempt` it is stored as an attempt; otherwise it is not counted, as when the mail server was
    down for all mails. `next_at` is when the notification is due again.
    """

    notification: Notification
    state: NotificationState
    reason: str | None = None
    next_at: dt.datetime | None = None
    count_attempt: bool = True
    code: int | None = None
    duration: float = 0.0

    def __post_init__(self) -> None:
        if self.reason is not None:
            object.__setattr__(self, "reason", storable(self.reason)[:_REASON_MAX])


class Grown(NamedTuple):
    """The new content of a digest, and the version up to which it reported when it was read."""

    notification: Notification
    was: int


class Place(NamedTuple):
    """A place in a list of deliveries: the last one that was seen."""

    created_on: dt.datetime
    id: str


class Overtaken(Exception):
    """A digest has changed since it was read: another process sends, made or extended it. Read it again."""

    def __init__(self, added: int = 0) -> None:
        """`added`: how many other notifications were queued nevertheless."""
        super().__init__(added)
        self.added = added


class Advanced(NamedTuple):
    """The requested hand-overs and settlements that succeeded, because their tokens were still current."""

    handed_over: set[str]
    settled: set[str]


class MailQueue(Protocol):
    """The queue of notifications: only the holder of a row's current token can change its state."""

    def add(self, notifications: Sequence[Notification], grown: Sequence[Grown] = ()) -> int:
        """Queue notifications with new ids; return how many were new. Durable when it returns.

        One with `next_at` is not due before; one that is already settled is only stored. Digests in `grown`
        get their new content, and the new time if given, as long as no attempt to send them was made.

        A claim sees this as one step: it never sees a mail of this call without those that precede it.
        Raises Overtaken if a digest of `grown` has changed since it was read, or one of `notifications` with
        entries exists already; then no later notification is queued.
        """

    def claim(self, limit: int, lease: float, channel: str = "mail") -> list[Notification]:
        """Claim due notifications of a channel (queued, or deferred whose time has come) for `lease` seconds.

        Each is returned as claimed, with a new token and `attempts` raised by one. Of one customer and
        recipient only the first unsettled one by `order` is ever returned, so mails stay in order. No other
        caller gets the same ones.
        """

    def advance(self, hand_overs: Sequence[Notification], settlements: Sequence[Settlement]) -> Advanced:
        """Record durably, in one write, which mails are about to be handed over and the results of others.

        A hand-over renews the whole lease. The sender that handed over an unknown one may still settle it as
        sent or failed, if the answer came after its lease expired.
        """

    def renew(self, notifications: Sequence[Notification], lease: float) -> None:
        """Renew the leases of those still ours, for `lease` seconds from now."""

    def expire(self, *, resend: bool = False) -> tuple[int, int]:
        """End expired leases: claimed ones are queued again, those handing over become unknown.

        With `resend` the latter are queued again too, and may arrive twice. Returns the numbers of both:
        queued again, unknown.
        """

    def sweep(self) -> int:
        """Unblock notifications that are blocked wrongly; return how many.

        A mail may be blocked only by an unsettled earlier one, so there is no cycle of blocked mails. Digests
        that are due later than any rule allows become due at once.
        """

    def stuck(self) -> int:
        """How many `sweep` would unblock: a few for a moment, while mails settle; else 0."""

    def unpublished_failures(self, limit: int, lease: float = 0.0) -> list[Notification]:
        """Failed notifications whose record on the failed topic is not confirmed yet.

        With a `lease` in seconds, no other caller with a lease gets them for that time.
        """

    def published(self, ids: Sequence[str]) -> None:
        """Note that their records on the failed topic are confirmed."""


class MailRecords(Protocol):
    """The records of all notifications, for operators to look up, send again, discard or blank."""

    def counts(self, states: Sequence[str] = (), *, paused: Sequence[str] = ()) -> dict[str, int]:
        """How many notifications are in each state, or in each of these; empty states are left out.

        Unsettled ones of the channels `paused` are counted as PAUSED instead of in their states. Counting a
        million takes about a second; a state with few takes hardly any time.
        """

    def oldest(self, *, paused: Sequence[str] = ()) -> dt.datetime | None:
        """When the oldest unsettled notification was created; None if all are settled.

        Those of the channels `paused` do not count; passing over a million of them takes about a second.
        """

    def find(self, ids: Sequence[str]) -> list[Notification]:
        """The notifications with these ids, in this order; unknown ids are left out."""

    def recent(
        self,
        *,
        customer_id: int | None = None,
        state: str | None = None,
        recipient: str | None = None,
        rule: str | None = None,
        event_id: str | None = None,
        since: dt.datetime | None = None,
        until: dt.datetime | None = None,
        recipient_prefix: str | None = None,
        limit: int = 100,
    ) -> list[Notification]:
        """The notifications that match all given arguments, newest first.

        `since` and `until`: created from then, and before then. `recipient_prefix`: how the recipient begins,
        letter for letter.
        """

    def attempts(self, ids: Sequence[str]) -> dict[str, list[Attempt]]:
        """The attempts of these notifications, the first one first; ids without any are left out."""

    def retry(self, ids: Sequence[str], *, out_of_order: bool = False, redeliver: bool = False) -> list[str]:
        """Queue these again, due at once and with all tries left; return which.

        Only those in a state of RETRIABLE, and none that a newer mail about the same customer to the same
        recipient has already overtaken, unless `out_of_order`. With `redeliver` also those sent by a channel
        other than mail, in any order.
        """

    def discard(self, ids: Sequence[str], reason: str) -> list[str]:
        """Discard these permanently, without a record on the failed topic; return which.

        Only those in a state of DISCARDABLE: one that a sender holds stays with it.
        """

    def doubt(self, reason: str, limit: int = 5000) -> int:
        """Make unsettled notifications unknown, as they may have been sent; return how many.

        Only while no sender runs. Not those of webhook endpoints: these are delivered at least once anyway.
        """

    def drop_texts(
        self, since: dt.datetime | None, seconds: float, limit: int = 5000
    ) -> tuple[int, dt.datetime | None]:
        """Put NOT_KEPT in the place of texts of sent mails that were created so many seconds ago or earlier.

        Goes over those created after `since`, about `limit` of them, oldest first. Returns how many texts
        went, and up to which creation time it came: None at the end.
        """

    def forget(self, customer_id: int, version: int) -> int:
        """Blank personal data in a customer's notifications below this version; return in how many.

        Waiting ones are discarded; the result of each is kept.
        """

    def sent_since(self, recipients: Sequence[str], seconds: float) -> dict[str, int]:
        """How many mails were sent to each of these in the last `seconds`."""

    def prune(self, seconds: float, limit: int = 5000) -> int:
        """Delete rows of PRUNABLE made and settled this many seconds ago, failed ones only once published.

        Returns how many, at most `limit`; unknown ones stay until an operator settles them.
        """


class Deliveries(Protocol):
    """The notifications of channels other than mail, by channel."""

    def due(self, channels: Sequence[str]) -> list[str]:
        """The channels among these that have a notification that can be claimed now."""

    def deliveries(
        self, channel: str, *, state: str | None = None, limit: int = 100, after: Place | None = None
    ) -> list[Notification]:
        """The notifications of a channel, in this state if given, the newest first; those after a place."""

    def waiting(self, channel: str) -> int:
        """How many notifications of a channel are not settled."""

    def unserved(self, served: Sequence[str]) -> dict[str, int]:
        """How many notifications wait for each channel that is not mail, an endpoint's or one of these.

        Those behind an earlier one of their customer are not counted.
        """

    def hasten(self, channel: str, limit: int = 5000) -> int:
        """Make deferred notifications of a channel due at once, with all tries left; return how many."""

    def discard_waiting(
        self, prefix: str, reason: str, *, kept: Sequence[str] = (), older: float = 0.0, limit: int = 5000
    ) -> int:
        """Discard queued and deferred notifications of channels that begin with `prefix`; return how many.

        Not those of the channels `kept`, and only those created at least `older` seconds ago. Those that wait
        for an earlier one of their customer follow once that is settled.
        """


class Ledger(MailQueue, MailRecords, Deliveries, Protocol):
    """The notifications of a database: the queue, and the records of all."""
