"""The port of the ledger: notifications, how far each is, and what every attempt brought.

These docstrings are the contract of both backends. The words for states that they and the senders share are
here too, and how far a claim looks, so that they cannot differ.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Protocol

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

# A later mail to the same recipient about the same customer waits while one of these is before it. An
# unknown one does not hold it back: it may have arrived, and only a person can tell.
UNSETTLED: Final = ("queued", "claimed", "handing_over", "deferred")
SETTLED: Final = ("sent", "failed", "unknown", "suppressed", "discarded")
# What a person may have sent again, and what a person may give up.
RETRIABLE: Final = ("failed", "unknown", "suppressed", "discarded")
DISCARDABLE: Final = ("queued", "deferred", "failed", "unknown")
# What may go when it is old: nobody needs to look at it any more.
PRUNABLE: Final = ("sent", "failed", "suppressed", "discarded")
# A newer mail that is on its way or there: an older one would come after it.
AHEAD: Final = ("claimed", "handing_over", "sent")

# A claim looks at this many at a time. Where nearly all must wait, it goes on for so many turns, or for a few
# once it has some.
LOOK_AT: Final = 500
ROUNDS: Final = 40
ENOUGH: Final = 2
# Seconds. No digest is put off further: one that is was made by a clock that is wrong, in an older version.
FARTHEST: Final = 8 * 86400.0

ERASED: Final = "(erased)"

# Two halves of one conversation: whoever died between them left a mail that may have arrived.
LOST_IN_HAND_OVER: Final = "the sender stopped while it handed the mail over; whether it arrived is not known"


_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
_REASON_MAX: Final = 2000


def storable(text: str) -> str:
    """`text` as both databases can hold it: NUL and lone surrogates become U+FFFD."""
    if "\x00" in text or not text.isascii():
        return _UNSTORABLE.sub("\ufffd", text)
    return text


def _clean(row: object, *names: str) -> None:
    """Make text fields of a frozen row storable: no row may fail for what somebody else wrote."""
    for name in names:
        text = getattr(row, name)
        if text is not None and (clean := storable(text)) is not text:
            object.__setattr__(row, name, clean)


@dataclass(frozen=True, slots=True)
class Notification:
    """One mail to one recipient because of one event: what to send, and how far it is.

    `id` is derived from (event, rule, recipient), so the same one is never queued twice; the Message-ID
    is derived from it. `channel` is `mail` or the name of another channel; `recipient` means what it means
    there. `spared` counts the attempts before a person had it sent again: they no longer use up its tries.
    `entries` is what a digest reports so far: from `first_version`, which never changes, up to `version`.
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

    @property
    def order(self) -> int:
        """Its place among the mails about its customer: the version of the first event it reports."""
        return self.version if self.first_version is None else self.first_version

    def __post_init__(self) -> None:
        _clean(self, "event_id", "recipient", "subject", "text", "html", "reason", "entries")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to send: when it began, how it ended, the mail server's code and words, and its duration."""

    number: int
    tried_on: dt.datetime
    outcome: NotificationState
    code: int | None
    text: str | None
    duration: float


@dataclass(frozen=True, slots=True)
class Settlement:
    """How the try of a claimed notification ended.

    Counted, it is kept as an attempt; else the attempt is given back, as when the mail server was down for
    all. `next_at` is when it is due again.
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
    """A digest as it is to be, and the version up to which it reported when it was read."""

    notification: Notification
    was: int


class Overtaken(Exception):
    """A digest is not as it was read: somebody sends it, made it, or gave it more. Read it again."""

    def __init__(self, added: int = 0) -> None:
        """`added`: how many other notifications were queued all the same."""
        super().__init__(added)
        self.added = added


class Advanced(NamedTuple):
    """Of the hand-overs and of the settlements asked for, those whose tokens were still the holder's."""

    handed_over: set[str]
    settled: set[str]


class MailQueue(Protocol):
    """Notifications on their way: a row's state moves only for the holder of its current token."""

    def add(self, notifications: Sequence[Notification], grown: Sequence[Grown] = ()) -> int:
        """Queue those that are not there yet, by id; returns how many were new. Durable when it returns.

        One with `next_at` is not due before; one that is settled already is only kept. Digests in `grown`
        get their new content, and the new time where one is given, as long as nobody has tried to send them.

        It is one step to whoever claims: a mail of this call is never seen without those that go before it.
        Raises Overtaken where a digest of `grown` is not as it was read, or one of `notifications` that has
        entries is there already; nothing that goes after it is queued then.
        """

    def revise(self, notification: Notification, version: int) -> bool:
        """Give a digest that was at `version` this content; False where it is not as it was read."""

    def claim(self, limit: int, lease: float, channel: str = "mail") -> list[Notification]:
        """Take due ones of a channel (queued, or deferred whose time has come) for `lease` seconds.

        Each comes as claimed with a new token and `attempts` raised by one. Of one customer and recipient
        only the first by `order` that is not settled is ever given out, so mails stay in order. Nobody
        else gets the same ones.
        """

    def advance(self, hand_overs: Sequence[Notification], settlements: Sequence[Settlement]) -> Advanced:
        """Record durably, in one write, which mails are about to be handed over and how others ended.

        A hand-over has the whole lease again. An unknown one may still be settled as sent or failed by the
        sender that handed it over, when the answer came after its lease ran out.
        """

    def handing_over(self, notification: Notification) -> bool:
        """Record durably that the mail is about to be handed over; False if the token is no longer ours."""

    def settle(self, notification: Notification, state: NotificationState, **how: Any) -> bool:
        """Record how an attempt ended (`how`: as in Settlement); False if the token is no longer ours."""

    def renew(self, notifications: Sequence[Notification], lease: float) -> None:
        """Hold these for `lease` seconds from now, as far as they are still ours."""

    def expire(self, *, resend: bool = False) -> tuple[int, int]:
        """Leases that ran out: claimed ones are queued again, those handing over become unknown.

        With `resend` those are queued again too, and may arrive twice. Returns how many of each: queued
        again, unknown.
        """

    def sweep(self) -> int:
        """Let those be claimed again that wait without reason; returns how many.

        A mail that waits for another one may do so only while that is not settled, and goes before it: so
        there is no circle of mails that wait for each other. Digests due later than any rule can mean are
        due at once.
        """

    def stuck(self) -> int:
        """How many `sweep` would free: a few for a moment, while mails settle; else 0."""

    def unpublished_failures(self, limit: int, lease: float = 0.0) -> list[Notification]:
        """Failed ones whose record on the failed topic is not confirmed yet.

        With a `lease`, nobody else that asks for one is given them for as long.
        """

    def published(self, ids: Sequence[str]) -> None:
        """Their records on the failed topic are confirmed."""


class MailRecords(Protocol):
    """What became of each notification, for people to look up, send again, give up or forget."""

    def counts(self, states: Sequence[str] = ()) -> dict[str, int]:
        """How many are in each state, or in each of these; a state without any is left out.

        Of a million it takes a second or so; of a state that few are in, hardly any time.
        """

    def oldest(self) -> dt.datetime | None:
        """Since when the oldest that is not settled is there; None where all are."""

    def find(self, ids: Sequence[str]) -> list[Notification]:
        """These, in the order asked; unknown ids are left out."""

    def recent(
        self,
        *,
        customer_id: int | None = None,
        state: str | None = None,
        recipient: str | None = None,
        rule: str | None = None,
        event_id: str | None = None,
        since: dt.datetime | None = None,
        limit: int = 100,
    ) -> list[Notification]:
        """Those that match all that is given, the newest first; `since` is about their creation."""

    def attempts(self, ids: Sequence[str]) -> dict[str, list[Attempt]]:
        """The attempts of these notifications, the first one first; ids without any are left out."""

    def retry(self, ids: Sequence[str], *, out_of_order: bool = False, redeliver: bool = False) -> list[str]:
        """Queue these again, due at once and with all tries before them; returns which.

        Only those in a state of RETRIABLE, and none that a newer mail of the same customer to the same
        recipient has overtaken already, unless `out_of_order`. With `redeliver` also those that were sent
        by another channel than mail, in whatever order.
        """

    def discard(self, ids: Sequence[str], reason: str) -> list[str]:
        """Give these up for good without a word to the failed topic; returns which.

        Only those in a state of DISCARDABLE: one that a sender holds is left to it.
        """

    def forget(self, customer_id: int, version: int) -> int:
        """Blank what is personal in a customer's notifications below this version; returns in how many.

        Those that wait are discarded; how each ended stays known.
        """

    def sent_since(self, recipients: Sequence[str], seconds: float) -> dict[str, int]:
        """How many mails were sent to each of these in the last `seconds`."""

    def prune(self, seconds: float, limit: int = 5000) -> int:
        """Delete those of PRUNABLE that were made and settled so long ago, failed ones only once published.

        Returns how many, at most `limit`; unknown ones stay until a person settles them.
        """


class Ledger(MailQueue, MailRecords, Protocol):
    """The notifications of a database: the queue of those on their way, and the records of all."""
