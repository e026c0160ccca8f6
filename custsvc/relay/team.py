"""The relays of one process: one for each shard, each leads or stands by. They follow the stored number.

Every process tries for every shard, so a single one leads them all, and none is left alone. A process that
leads nothing says so by a fact that it changes every two seconds; one that leads several sees that, and hands
one of them back: it marks what is sent, leaves, and does not try for that shard for some seconds.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Final

from ..config import Settings
from ..errors import TemporaryError
from ..kafka.publisher import Publisher
from ..ports.facts import Fact
from ..ports.store import Store
from ..runtime import metrics
from ..runtime.loop import Stop, keep_trying
from .relay import Beside, Relay
from .shards import WHOLE, Division, Shard, wanted

logger = logging.getLogger(__name__)

# Seconds between two looks at the facts, and how long one that handed a shard back does not try for it.
_LOOK: Final = 1.0
_AWAY: Final = 5.0
# How soon a relay that waits notices that it should end.
_SLICE: Final = 0.1
# Seconds between two signs of a process that leads nothing.
_SIGN: Final = 2.0


class _Linked(Stop):
    """A stop request for one relay; that of the process counts too."""

    def __init__(self, process: Stop) -> None:
        super().__init__()
        self._process = process

    def asked(self) -> bool:
        return self._process.asked() or super().asked()

    def hurries(self) -> bool:
        # A batch that was given up may still reach Kafka, after the next leader has sent later events.
        return self._process.asked()

    def wait(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not super().asked() and (left := end - time.monotonic()) > 0:
            if self._process.wait(min(left, _SLICE)):
                return True
        return self.asked()


class _Member:
    """One shard's relay in a thread of its own."""

    def __init__(self, team: Team, shard: Shard, threads: ThreadPoolExecutor) -> None:
        self._team = team
        self._threads = threads
        self.shard = shard
        self.stop = team.new_stop()
        self.relay: Relay | None = None
        self.away_until = 0.0
        self._running: Future[None] | None = None

    @property
    def leads(self) -> bool:
        return self.relay is not None and self.relay.leads

    def check(self) -> None:
        """Start it if it should run and does not; raise what it has raised."""
        if self._running is not None and self._running.done():
            running, self._running = self._running, None
            running.result()
        if self._running is None and time.monotonic() > self.away_until:
            self.stop = self._team.new_stop()
            self._running = self._threads.submit(self._run)

    def hand_back(self) -> None:
        self.away_until = time.monotonic() + _AWAY
        self.stop.ask()

    def end(self) -> None:
        """Wait until it has left; raise what it has raised."""
        self.stop.ask()
        if self._running is not None:
            self._running.result()

    def _run(self) -> None:
        try:
            with self._team.relay(self.shard, self.stop) as self.relay:
                self.relay.run()
        finally:
            self.relay = None
            if not self.shard.is_whole:
                metrics.forget(self.shard.loop)


class Team:
    """All relays of a process."""

    def __init__(self, settings: Settings, store: Store, stop: Stop, beside: Beside = nullcontext) -> None:
        self._settings = settings
        self._store = store
        self._stop = stop
        self._beside = beside
        # The last sign that was seen of a process that leads nothing, and when this one gave one.
        self._sign = ""
        self._signed_on = 0.0

    def run(self) -> None:
        """Lead or stand by until stop is asked. Raises ConfigurationError (see `guard`)."""
        keep_trying(self._follow, self._stop, "relay")

    def _follow(self) -> None:
        """Run the relays of the present division until it changes."""
        division = self._wanted()
        with ThreadPoolExecutor(division.shards, "relay") as threads:
            members = [_Member(self, Shard(n, division), threads) for n in range(division.shards)]
            try:
                while not self._stop.asked() and self._is_still(division):
                    for each in members:
                        each.check()
                    if division != WHOLE:
                        self._share_out(members)
                    self._stop.wait(_LOOK)
            finally:
                for each in members:
                    each.stop.ask()
                for each in members:
                    each.end()

    def _wanted(self) -> Division:
        return wanted(self._store.facts, self._settings.topic_updates)

    def _is_still(self, division: Division) -> bool:
        try:
            return self._wanted() == division
        except TemporaryError as exc:
            # Its relays wait by themselves.
            logger.debug("Cannot look for the number of shards: %s", exc)
            return True

    def _share_out(self, members: list[_Member]) -> None:
        """Hand a shard back if another process leads none; or say that this one leads none."""
        leading = [each for each in members if each.leads]
        facts = self._store.facts
        try:
            if not leading and time.monotonic() - self._signed_on > _SIGN:
                self._signed_on = time.monotonic()
                facts.put(Fact.RELAY_WAITS, uuid.uuid4().hex)
            elif len(leading) > 1:
                sign = facts.get(Fact.RELAY_WAITS) or ""
                # The first one seen may be of a process that is gone.
                if self._sign not in ("", sign):
                    leading[-1].hand_back()
                    logger.info(
                        "Another relay leads nothing: handing back shard %d",
                        leading[-1].shard.number,
                        extra={"action": "handed_back"},
                    )
                    sign = ""
                self._sign = sign
        except TemporaryError as exc:
            logger.debug("Cannot look for relays that wait: %s", exc)

    def new_stop(self) -> Stop:
        return _Linked(self._stop)

    @contextmanager
    def relay(self, shard: Shard, stop: Stop) -> Iterator[Relay]:
        """A relay of this shard with a client of its own."""
        with Publisher(self._settings) as publisher:
            yield Relay(self._settings, self._store, publisher, stop, self._beside, shard)
