"""`custsvc topics grow` and `drop-old`: what is done beside the relay, which decides when to switch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from ..config import Settings
from ..domain.customers import format_time
from ..errors import Conflict, Stopped
from ..kafka import client as kafka
from ..kafka import groups
from ..kafka.offsets import ends
from ..kafka.publisher import Publisher
from ..kafka.record import record_time
from ..kafka.topics import add_partitions, delete_before, layout
from ..ports.customers import CustomerFilter
from ..ports.store import Store
from ..runtime import crash
from ..runtime.loop import Stop
from .growth import Growth, ask, forget, growth_of, remember, waits_for
from .guard import check_topic
from .replay import Replay, Selection

# Seconds between two looks at how far the relay is.
_EVERY: Final = 0.5
# Seconds by which the clock of the database and ours may differ.
_CLOCKS: Final = 1.0
# What the topic promises to keep every version for.
KEPT: Final = 7 * 86400.0


class Grow:
    """One growth, from asking for it to the last snapshot. `say` is told what it waits for."""

    def __init__(self, settings: Settings, store: Store, stop: Stop, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._topic = settings.topic_updates
        self._servers = settings.kafka_servers
        self._store = store
        self._stop = stop
        self._say = say
        self._admin = kafka.admin(settings)

    def groups(self) -> list[str]:
        """The groups that read the topic, as far as the account may see them."""
        return groups.readers(self._admin, self._topic, self._servers)

    def used(self) -> int:
        """How many partitions the relay sends to. Raises ConfigurationError if it would refuse the topic."""
        return check_topic(self._settings, self._store.facts, self._admin).partitions

    def switch(self, to: int, without: Sequence[str]) -> Growth:
        """Ask the relay for this number of partitions, add them, and wait until it uses them.

        Raises Stopped when stop is asked: the relay then goes on by itself.
        """
        growth = ask(self._store.facts, self._topic, self.used(), to, self.groups(), without)
        crash.point("grow.asked")
        if layout(self._admin, self._topic, self._servers)[1] < to:
            add_partitions(self._admin, self._topic, to, self._servers)
        crash.point("grow.added")
        said = ""
        while self.used() != to:
            waits = waits_for(self._store.facts, self._topic) or "waiting for the relay"
            if waits != said:
                self._say(waits)
                said = waits
            if self._stop.wait(_EVERY):
                raise Stopped(
                    "stopped; the relay switches without this command as soon as it can",
                    fix=f"see how far it is, and finish: custsvc topics grow --partitions {to}",
                )
        return growth_of(self._store.facts, self._topic) or growth

    def about(self) -> int:
        """About how many customers `fill` sends, if it is not a second time."""
        return self._store.customers.count(CustomerFilter("include"), exact=False)

    def fill(self, growth: Growth, *, rate: float | None, progress: Callable[[int], None]) -> int:
        """Send each customer once more, so that the topic has everything after `since`; return how many."""
        facts = self._store.facts
        if not growth.since:
            found = ends(self._admin, self._topic, range(growth.to), self._servers)
            growth = replace(growth, since={str(part): end for part, end in found.items()})
            remember(facts, self._topic, growth)
        self._wait_for_outbox()

        def passed(step: int) -> None:
            crash.point("grow.filling")
            progress(step)

        with Publisher(self._settings) as publisher:
            replay = Replay(
                self._settings,
                self._store,
                publisher,
                stop=self._stop,
                rate=rate,
                mails=False,
                progress=passed,
            )
            done = replay.run(self._all(growth))
        remember(facts, self._topic, replace(growth, filled=time.time()))
        return done.sent

    def _wait_for_outbox(self) -> None:
        """Wait until the events that were written until now are known to be sent.

        The replay leaves a customer to the relay whose event is not: that event must come after `since`.
        """
        began = time.monotonic()
        while (depth := self._store.outbox.depth()).waiting:
            if depth.oldest_age < time.monotonic() - began - _CLOCKS:
                return
            if self._stop.wait(_EVERY):
                raise Stopped("the growth was stopped; run the same command again to go on")

    def _all(self, growth: Growth) -> Selection:
        return Selection(purpose=f"growth of {self._topic} at {growth.began}")


def drop_old(settings: Settings, store: Store, *, now: bool) -> int:
    """Delete the records from before the last growth, which the topic holds again since; return how many.

    Raises Conflict while somebody may need them: the growth is not finished, a group has not read them, or
    (unless `now`) the topic was filled less than seven days ago.
    """
    topic, servers = settings.topic_updates, settings.kafka_servers
    growth = growth_of(store.facts, topic)
    if growth is None:
        return 0
    if not growth.filled:
        raise Conflict(
            f"the topic still grows to {growth.to} partitions",
            fix=f"custsvc topics grow --partitions {growth.to}",
        )
    if not now and time.time() < growth.filled + KEPT:
        until = format_time(record_time(int((growth.filled + KEPT) * 1000)))
        raise Conflict(
            f"consumers may count on every version of the last seven days, so they stay until {until}",
            fix="wait until then; or, if no consumer is that far behind: --now",
        )
    client = kafka.admin(settings)
    since = {int(part): offset for part, offset in growth.since.items()}
    begins = ends(client, topic, sorted(since), servers, first=True)
    for name in groups.readers(client, topic, servers):
        done = groups.committed(client, name, topic, servers)
        behind = [part for part, offset in since.items() if max(done.get(part, 0), begins[part]) < offset]
        if name not in growth.without and behind:
            raise Conflict(
                f"the group {name} has not read everything from before the growth in partition {behind[0]}",
                fix="start its consumers, and wait; or delete the group if nobody uses it any more",
            )
    delete_before(client, topic, since, servers)
    forget(store.facts, topic)
    return sum(max(0, offset - begins[part]) for part, offset in since.items())
