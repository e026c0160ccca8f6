"""Sends what waits for webhook endpoints: a pool of workers, which take lanes with something due.

An endpoint has up to four lanes, each with a connection of its own. The first of them gets a worker at once;
the others only while half of the workers are free. Endpoints whose last call was slow share one half, so that
any number of slow receivers hold up no quick one; a worker leaves a lane after some seconds, and the endpoint
that has waited longest is next.
"""

from __future__ import annotations

import importlib.util
import logging
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from ... import redact
from ...config import Settings
from ...errors import TemporaryError
from ...ports.endpoints import CHANNEL_PREFIX, Endpoint
from ...ports.store import Store
from ...runtime.loop import Outage, Stop
from ..channels.reachable import Reachable
from ..intake.deliveries import RULE, test_delivery
from ..sending.breaker import Breaker
from ..sending.gate import Gate, Limits
from ..sending.journal import Journal
from ..sending.sender import Policy, Sender
from .channel import EndpointChannel, Health
from .letter import paused_mail

logger = logging.getLogger(__name__)

_PACKAGES: Final = ("standardwebhooks", "urllib3")
_DAY: Final = 86400.0
_LANES: Final = 4
# Seconds after which a worker leaves a lane that still has something due.
_PATIENCE: Final = 5.0
_TIDY_EVERY: Final = 600.0
# Seconds after which deliveries without an endpoint are discarded: no list of endpoints is so old.
_ORPHANED: Final = 3600.0


class _LaneStop(Stop):
    """Asked when the process stops, or when the lane's endpoint was changed, paused or deleted."""

    def __init__(self, process: Stop) -> None:
        super().__init__()
        self._process = process

    def asked(self) -> bool:
        return super().asked() or self._process.asked()

    def wait(self, seconds: float) -> bool:
        return self._process.wait(seconds) or self.asked()


@dataclass(slots=True, eq=False)
class _Lane:
    """A connection to an endpoint, for one worker at a time."""

    sender: Sender
    channel: EndpointChannel
    stop: _LaneStop
    is_running: bool = False

    def turn(self) -> bool:
        """Send a batch; True if anything was settled. Closes the connection of a lane that ended."""
        before = self.sender.settled.total()
        if not self.stop.asked():
            self.sender.turn()
        if self.stop.asked():
            self.channel.quit()
        return self.sender.settled.total() > before


@dataclass(slots=True, eq=False)
class _Line:
    """The lanes to one endpoint, as its address and secrets are."""

    url: str = field(repr=False)
    secrets: Sequence[str] = field(repr=False)
    health: Health
    breaker: Breaker = field(default_factory=Breaker)
    lanes: list[_Lane] = field(default_factory=list)
    # When it last got a worker.
    began: float = 0.0

    def is_of(self, *made_of: object) -> bool:
        """Whether the endpoint still has this address and these secrets."""
        now = (self.url, self.secrets)
        return made_of == now

    @property
    def running(self) -> int:
        return sum(lane.is_running for lane in self.lanes)

    def end(self) -> None:
        for lane in self.lanes:
            lane.stop.ask()
            if not lane.is_running:
                lane.channel.quit()


class Dispatch:
    """The thread that looks for due deliveries, and its workers."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        journal: Journal,
        policy: Policy,
        stop: Stop,
        *,
        keep: float,
        bell: threading.Event,
    ) -> None:
        """`keep`: seconds that a delivery may wait; `bell`: set when there is more to do."""
        self._settings = settings
        self._store = store
        self._journal = journal
        self._stop = stop
        self._keep = keep
        self._bell = bell
        self._idle = policy.idle
        self._reachable = Reachable.parse(settings.webhook_allow)
        self._pause_after = settings.webhook_pause_days * _DAY
        # An endpoint is paused before its deliveries are given up; and no worker waits inside a sender, or
        # stays with a slow receiver while others wait.
        self._policy = replace(
            policy, idle=0.0, patience=_PATIENCE, give_up=policy.give_up + self._pause_after
        )
        self._gate = Gate(store.ledger, store.recipients, Limits(), {RULE})
        self._lines: dict[str, _Line] = {}
        self._work: queue.SimpleQueue[_Lane] = queue.SimpleQueue()
        self._workers = 0
        self._running = 0
        self._counting = threading.Lock()
        self._error: BaseException | None = None
        self._tidy_at = 0.0
        self._is_able = self._was_told = False

    def run(self) -> None:
        """Dispatch until stop is asked. Waits out outages of the ledger. Raises the error of a worker."""
        outage = Outage("Dispatching webhooks")
        while not self._stop.asked() and self._error is None:
            self._bell.clear()
            try:
                self.turn()
                outage.over()
            except TemporaryError as exc:
                self._stop.wait(outage.failed(exc))
            self._bell.wait(self._idle)
        if self._error is not None:
            raise self._error

    def turn(self) -> None:
        """Look once at the endpoints, and give workers to those that have something due."""
        endpoints = self._store.endpoints.all()
        active = [endpoint for endpoint in endpoints if endpoint.paused_on is None]
        self._tell_owners(endpoints)
        self._queue_tests(active)
        self._renew(active if self._can_call(active) else ())
        ready = [e.channel for e in active if e.id in self._lines and self._lines[e.id].breaker.is_ready]
        if ready:
            self._start(self._store.ledger.due(ready))
        if time.monotonic() >= self._tidy_at:
            self._tidy(endpoints)
            self._tidy_at = time.monotonic() + _TIDY_EVERY

    # -- what endpoints ask for ----------------------------------------------------------------------------

    def _tell_owners(self, endpoints: Sequence[Endpoint]) -> None:
        """Queue the mails about new pauses; repeated after a kill, they are the same."""
        for endpoint in endpoints:
            if endpoint.paused_on is None or endpoint.paused_by is not None or endpoint.owner_told:
                continue
            if mail := paused_mail(endpoint, self._settings.public_url):
                self._store.ledger.add([mail])
            self._store.endpoints.note_owner_mailed(endpoint.id, endpoint.paused_on)

    def _queue_tests(self, endpoints: Sequence[Endpoint]) -> None:
        for endpoint in endpoints:
            if endpoint.test_asked is not None:
                self._store.ledger.add([test_delivery(endpoint, endpoint.test_asked)])
                self._store.endpoints.test_queued(endpoint.id, endpoint.test_asked)

    def _can_call(self, active: Sequence[Endpoint]) -> bool:
        """Whether the packages for webhooks are installed; without them everything waits, and mails go on."""
        if not active or self._is_able:
            return True
        missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
        self._is_able = not missing
        if missing and not self._was_told:
            self._was_told = True
            logger.error(
                "Webhooks wait: %s is not installed; pip install 'custsvc[channels]'",
                ", ".join(missing),
                extra={"action": "webhooks_wait"},
            )
        return self._is_able

    # -- lanes ---------------------------------------------------------------------------------------------

    def _renew(self, active: Sequence[Endpoint]) -> None:
        """Make the lanes of new and changed endpoints, end those of others."""
        secrets = self._store.endpoints.secrets() if active else {}
        there = {endpoint.id: endpoint for endpoint in active if secrets.get(endpoint.id)}
        for id_, line in list(self._lines.items()):
            if id_ not in there or not line.is_of(there[id_].url, secrets[id_]):
                self._lines.pop(id_).end()
        for id_, endpoint in there.items():
            if id_ not in self._lines:
                redact.know(*secrets[id_])
                health = Health(self._store.endpoints, id_, self._pause_after)
                self._lines[id_] = _Line(endpoint.url, secrets[id_], health)
            if endpoint.failing_since is not None:
                self._lines[id_].health.is_failing = True

    def _lane(self, channel_name: str, line: _Line) -> _Lane | None:
        """A free lane; None if there is none, and no more may be made."""
        free = next((lane for lane in line.lanes if not lane.is_running), None)
        if free is not None or len(line.lanes) >= _LANES:
            return free
        stop = _LaneStop(self._stop)
        channel = EndpointChannel(line.url, *line.secrets, reachable=self._reachable, health=line.health)
        sender = Sender(channel_name, channel, self._journal, self._gate, line.breaker, self._policy, stop)
        line.lanes.append(_Lane(sender, channel, stop))
        return line.lanes[-1]

    def _start(self, due: Sequence[str]) -> None:
        """Give free workers to the endpoints that have something due, those without a worker first."""
        lines = [(name, self._lines[name.removeprefix(CHANNEL_PREFIX)]) for name in due]
        for name, line in sorted(lines, key=lambda each: (each[1].running, each[1].began)):
            lane = self._lane(name, line) if self._may_start(line) else None
            if lane is not None:
                line.began = time.monotonic()
                with self._counting:
                    lane.is_running = True
                    self._running += 1
                if self._workers < self._running:
                    self._workers += 1
                    threading.Thread(target=self._serve, name=f"webhook-{self._workers}", daemon=True).start()
                self._work.put(lane)

    def _may_start(self, line: _Line) -> bool:
        most = self._settings.webhook_connections
        half = max(1, most // 2)
        if line.health.is_slow:
            slow = sum(each.running for each in self._lines.values() if each.health.is_slow)
            if slow >= half:
                return False
        return self._running < (most if line.running == 0 else half)

    def _serve(self) -> None:
        """A worker: it takes one lane after the other."""
        while not self._stop.asked():
            try:
                lane = self._work.get(timeout=1.0)
            except queue.Empty:
                continue
            more = True
            try:
                more = lane.turn()
            except BaseException as exc:  # noqa: BLE001 - raised again in the thread of the role
                self._error = exc
            finally:
                with self._counting:
                    lane.is_running = False
                    self._running -= 1
                if more:
                    self._bell.set()

    # -- tidying -------------------------------------------------------------------------------------------

    def _tidy(self, endpoints: Sequence[Endpoint]) -> None:
        """Give up what waits for endpoints that are gone, or waited too long; delete old secrets."""
        kept = [endpoint.channel for endpoint in endpoints]
        self._discard("the endpoint was deleted", kept=kept, older=_ORPHANED)
        self._discard(f"it waited for {self._keep / _DAY:g} days", older=self._keep)
        self._store.endpoints.prune_secrets()

    def _discard(self, reason: str, *, kept: Sequence[str] = (), older: float) -> None:
        discard = self._store.ledger.discard_waiting
        while not self._stop.asked():
            count = discard(CHANNEL_PREFIX, reason, kept=kept, older=older)
            if not count:
                return
            logger.warning("%d deliveries are discarded: %s", count, reason, extra={"action": "discarded"})
