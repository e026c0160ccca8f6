"""The live picture of the pipeline: how much waits at each step, for how long, and the rates.

One thread per process looks once a second while a page is open, so that neither many watchers nor a server
that does not answer costs more than this thread. Rates are differences between looks; the last of them are
kept, so that a step can be drawn over time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from ..errors import CustsvcError
from ..http.problems import NO_KAFKA
from ..http.resource import Services
from ..ports.endpoints import paused_channels
from ..ports.ledger import PAUSED, UNSETTLED
from ..runtime.cached import Cached
from .trend import Trend
from .words import DATABASES

logger = logging.getLogger(__name__)

_EVERY: Final = 1.0
_WATCHED: Final = 15.0
_FIRST: Final = 3.0
# Seconds over which rates are computed.
_SPAN: Final = 10.0
# Looks that a trend keeps: about 90 seconds.
_LOOKS: Final = 90

Health = Literal["good", "busy", "bad", "unknown"]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the pipeline as the page shows it."""

    name: str
    what: str
    health: Health
    big: float | None
    unit: str
    facts: tuple[tuple[str, Any], ...] = ()
    problem: str | None = None
    trend: Trend | None = None


@dataclass(slots=True)
class Picture:
    """All steps, and the time of the look (as of time.time())."""

    steps: list[Step] = field(default_factory=list)
    seen_at: float = 0.0


class Monitor:
    """Looks at the pipeline while a page shows it."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._settings = services.settings
        self._lock = threading.Condition()
        self._picture = Picture()
        self._watched = 0.0
        self._running = False
        self._counters: deque[tuple[float, dict[str, float]]] = deque()
        self._trends: dict[str, deque[float]] = {}
        self._behind_since: dict[str, float] = {}
        self._probe: Any = None
        store = services.store
        self._mails = Cached(lambda: store.ledger.counts(paused=paused_channels(store.endpoints.all())))

    def look(self) -> Picture:
        """The newest picture. The first watcher waits for it, for at most three seconds."""
        with self._lock:
            self._watched = time.monotonic()
            if not self._running:
                self._running = True
                self._picture = Picture()
                threading.Thread(target=self._run, name="monitor", daemon=True).start()
            self._lock.wait_for(lambda: self._picture.seen_at > 0, timeout=_FIRST)
            return self._picture

    def _run(self) -> None:
        try:
            while time.monotonic() - self._watched < _WATCHED:
                begun = time.monotonic()
                picture = Picture(self._steps(), time.time())
                with self._lock:
                    self._picture = picture
                    self._lock.notify_all()
                time.sleep(max(0.1, _EVERY - (time.monotonic() - begun)))
        except Exception:
            logger.exception("The monitor of the pipeline failed", extra={"action": "monitor_ended"})
        finally:
            if self._probe is not None:
                self._probe.close()
                self._probe = None
            with self._lock:
                self._running = False
                self._counters.clear()
                self._trends.clear()

    def _steps(self) -> list[Step]:
        seen: dict[str, Any] = {}
        problems: dict[str, str] = {}
        for name, question in self._questions().items():
            try:
                seen[name] = question()
            except CustsvcError as exc:
                problems[name] = str(exc)
        self._count(seen)
        return [
            self._write_step(problems),
            self._outbox_step(seen.get("outbox"), problems.get("outbox")),
            self._kafka_step(seen.get("ends"), problems.get("ends")),
            self._copy_step(seen, problems.get("copy") or problems.get("ends")),
            self._mail_step(seen, problems.get("mails")),
        ]

    def _questions(self) -> dict[str, Callable[[], Any]]:
        store = self._services.store
        questions: dict[str, Callable[[], Any]] = {
            "outbox": store.outbox.depth,
            "mails": self._mails,
        }
        if self._settings.kafka:
            if self._probe is None:
                from .probe import Probe

                self._probe = Probe(self._settings)
            questions |= {
                "ends": self._probe.ends,
                "copy": self._probe.copy_positions,
                "notify": self._probe.notify_positions,
            }
        return questions

    # -- rates and times -----------------------------------------------------------------------------------

    def _count(self, seen: dict[str, Any]) -> None:
        counters: dict[str, float] = {}
        if "ends" in seen:
            counters["kafka"] = sum(seen["ends"].values())
            if "outbox" in seen:
                counters["written"] = counters["kafka"] + seen["outbox"].waiting
        if seen.get("copy") is not None:
            counters["copy"] = sum(seen["copy"].values())
        if "mails" in seen:
            counters["sent"] = seen["mails"].get("sent", 0)
        now = time.monotonic()
        self._counters.append((now, counters))
        while now - self._counters[0][0] > _SPAN:
            self._counters.popleft()
        for name in counters:
            self._extend(name, self._rate(name))
        if "outbox" in seen:
            self._extend("waiting", seen["outbox"].waiting)

    def _extend(self, name: str, value: float | None) -> None:
        if value is not None:
            self._trends.setdefault(name, deque(maxlen=_LOOKS)).append(value)

    def _trend(self, name: str, unit: str) -> Trend:
        return Trend(tuple(self._trends.get(name, ())), unit, _EVERY)

    def _rate(self, name: str) -> float | None:
        """The rate per second over the last _SPAN seconds; None before the second look."""
        points = [(at, counters[name]) for at, counters in self._counters if name in counters]
        if len(points) < 2 or points[-1][0] - points[0][0] < _EVERY / 2:
            return None
        return max(0.0, (points[-1][1] - points[0][1]) / (points[-1][0] - points[0][0]))

    def _behind(self, name: str, waiting: int) -> float:
        """The seconds since the step was last empty."""
        if waiting == 0:
            self._behind_since.pop(name, None)
            return 0.0
        return time.monotonic() - self._behind_since.setdefault(name, time.monotonic())

    # -- steps ---------------------------------------------------------------------------------------------

    def _write_step(self, problems: dict[str, str]) -> Step:
        problem = problems.get("outbox")
        rate = self._rate("written")
        return Step(
            "API",
            f"writes to {DATABASES[self._services.store.name]}",
            "bad" if problem else "good",
            rate,
            "changes/s",
            (("Database", "answers" if not problem else "does not answer"),),
            problem,
            self._trend("written", "/s"),
        )

    def _outbox_step(self, depth: Any, problem: str | None) -> Step:
        what = "events not on Kafka yet"
        if depth is None:
            return Step("Outbox", what, "bad", None, "waiting", (), problem)
        facts = (("Oldest", ("seconds", depth.oldest_age)), ("Rate", ("rate", self._rate("kafka"))))
        health = _health(depth.waiting, depth.oldest_age)
        trend = self._trend("waiting", " waiting")
        return Step("Outbox", what, health, depth.waiting, "waiting", facts, None, trend)

    def _kafka_step(self, ends: dict[int, int] | None, problem: str | None) -> Step:
        what = "in order per customer"
        if ends is None:
            if not self._settings.kafka:
                return Step("Kafka", what, "unknown", None, "records", (), NO_KAFKA)
            return Step("Kafka", what, "bad", None, "records", (), problem)
        facts = (("Partitions", ("number", len(ends))), ("Rate", ("rate", self._rate("kafka"))))
        trend = self._trend("kafka", "/s")
        return Step("Kafka", what, "good", sum(ends.values()), "records", facts, None, trend)

    def _copy_step(self, seen: dict[str, Any], problem: str | None) -> Step:
        name = f"{DATABASES[self._settings.other_backend]} copy"
        what = "applies each event once"
        ends, positions = seen.get("ends"), seen.get("copy")
        if ends is None or positions is None:
            health: Health = "bad" if problem else "unknown"
            return Step(name, what, health, None, "behind", (), problem or "no copy is known")
        behind = sum(max(0, end - positions.get(part, 0)) for part, end in ends.items())
        since = self._behind("copy", behind)
        facts = (("Behind for", ("seconds", since)), ("Rate", ("rate", self._rate("copy"))))
        trend = self._trend("copy", "/s")
        return Step(name, what, _health(behind, since), behind, "behind", facts, None, trend)

    def _mail_step(self, seen: dict[str, Any], problem: str | None) -> Step:
        counts: dict[str, int] | None = seen.get("mails")
        if counts is None:
            return Step("Mail", "each mail sent once", "bad", None, "waiting", (), problem)
        waiting = sum(counts.get(state, 0) for state in UNSETTLED)
        lost = counts.get("failed", 0) + counts.get("unknown", 0)
        unread = _lag(seen.get("ends"), seen.get("notify"))
        facts: list[tuple[str, Any]] = [
            ("Sent", ("number", counts.get("sent", 0))),
            ("Rate", ("rate", self._rate("sent"))),
            ("Failed or unclear", ("number", lost)),
        ]
        if unread:
            facts.append(("Events to read", ("number", unread)))
        if counts.get(PAUSED):
            facts.append(("For paused webhooks", ("number", counts[PAUSED])))
        since = self._behind("mail", waiting + (unread or 0))
        health = "bad" if lost else _health(waiting + (unread or 0), since)
        trend = self._trend("sent", "/s")
        return Step("Mail", "each mail sent once", health, waiting, "waiting", tuple(facts), None, trend)


def _health(waiting: int, seconds: float) -> Health:
    """Waiting is normal for 2 s; after 30 s it is bad."""
    return "good" if waiting == 0 or seconds < 2 else "busy" if seconds < 30 else "bad"


def _lag(ends: dict[int, int] | None, positions: dict[int, int] | None) -> int | None:
    if ends is None or not positions:
        return None
    return sum(max(0, end - positions[part]) for part, end in ends.items() if part in positions)
