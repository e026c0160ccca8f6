"""Growth: more partitions for the topic of events, while everything runs and in order per customer.

The number of partitions only ever becomes a multiple of itself. So a customer's events stay in their
partition or move to an added one, and never from one old partition to another. The relay goes on with the old
number until nothing can be out of order, and then switches by a single stored fact:

    ASKED ──► `custsvc topics grow` stores what is wanted, and adds the partitions; nobody uses them yet
      │
      ▼ every consumer has the added partitions, and none is more than seconds behind
    HELD  ──► the relay sends nothing, for at most 20 seconds; writes go on, into the outbox
      │   └─► not read to the end in time: go on as before, and try again a minute later
      ▼ every group has committed the ends of the old partitions
    SWITCHED  the source remembers the new number of partitions: the relay sends by it from now on
      │
      ▼ the command sends each customer once more as a snapshot
    FILLED    from `since` on the topic has everything; `custsvc topics drop-old` may delete what was before

The switch is a choice that can be made only once: the relay that held, or one that took over since, whoever
stores it first decides for both (`settle`). A process that dies leaves its state behind, and the next leader
or the same command goes on from there. The groups of copies need not be waited for: a copy takes the highest
version of each customer, in any order.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Final, NamedTuple

import orjson

from ..config import Settings
from ..errors import Conflict, CustsvcError
from ..kafka import groups
from ..kafka.client import AdminClient, KafkaException
from ..kafka.offsets import ends as ends_of
from ..kafka.topics import layout
from ..ports.facts import Fact, Facts
from ..runtime import crash

logger = logging.getLogger(__name__)

COPIES: Final = "custsvc-copy-"
# Seconds: how far behind a group may be for the relay to hold, how long it holds, and until the next try.
_BEHIND = 15.0
_HOLD = 20.0
_AGAIN = 60.0
_SWITCH, _STAY = "switch", "stay"


@dataclass(frozen=True, slots=True)
class Growth:
    """What is wanted, and how far it is. `since`: where the partitions ended when the fill began."""

    was: int
    to: int
    groups: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    began: float = field(default_factory=time.time)
    since: Mapping[str, int] = field(default_factory=dict)
    filled: float = 0.0

    @property
    def awaited(self) -> tuple[str, ...]:
        """The groups of which a member has to have every added partition before the switch."""
        return tuple(sorted(set(self.groups) - set(self.without)))

    def ordered(self, copies: str) -> tuple[str, ...]:
        """The groups that have to read everything before the switch: all but those of copies."""
        return tuple(name for name in self.awaited if not name.startswith(copies))


def growth_of(facts: Facts, topic: str) -> Growth | None:
    """The growth of this topic that is under way, or whose old records are kept; else None."""
    found = facts.get(Fact.GROWTH + topic)
    if found is None:
        return None
    read = orjson.loads(found)
    return Growth(**{**read, "groups": tuple(read["groups"]), "without": tuple(read["without"])})


def remember(facts: Facts, topic: str, growth: Growth) -> None:
    """Store how far the growth is. Durable when it returns."""
    facts.put(Fact.GROWTH + topic, orjson.dumps(asdict(growth)).decode())


def forget(facts: Facts, topic: str) -> None:
    """Forget the growth: nothing of it is left."""
    facts.drop(Fact.GROWTH + topic)
    facts.drop(Fact.GROWTH_WAITS + topic)
    facts.drop_all(f"{Fact.GROWTH_CHOICE}{topic}:")


def ask(
    facts: Facts, topic: str, partitions: int, to: int, names: Sequence[str], without: Sequence[str]
) -> Growth:
    """Store what is wanted, or go on with what was: then only the groups change.

    Raises Conflict if another growth is under way, or the records from before one are still there, or the
    number is not a multiple of the present one.
    """
    known = growth_of(facts, topic)
    if known is not None and known.to != to:
        if known.filled:
            raise Conflict(
                f"the topic has grown to {known.to} partitions, and the records from before are still there",
                fix="delete them first: custsvc topics drop-old",
            )
        raise Conflict(
            f"the topic grows to {known.to} partitions already",
            fix=f"custsvc topics grow --partitions {known.to}",
        )
    if known is None and (to <= partitions or to % partitions):
        raise Conflict(
            f"the topic has {partitions} partitions and can grow to a multiple of that, not to {to}: "
            "a customer's events then stay in their partition or move to an added one",
            fix=f"custsvc topics grow --partitions {max(2, round(to / partitions)) * partitions}",
        )
    growth = replace(
        known or Growth(partitions, to), groups=tuple(sorted(names)), without=tuple(sorted(without))
    )
    remember(facts, topic, growth)
    return growth


def settle(facts: Facts, topic: str) -> None:
    """For a relay that begins to lead: end a hold of the one before, which then cannot switch any more.

    If that one has decided to switch, this finishes it.
    """
    if (hold := facts.get(Fact.GROWTH_HOLD + topic)) is not None:
        _choose(facts, topic, hold, _STAY)
        facts.drop(Fact.GROWTH_HOLD + topic)


def _choose(facts: Facts, topic: str, hold: str, choice: str) -> bool:
    """Whether the first choice that was stored for this hold is the switch, which then is done."""
    # The choice stays stored: one that was stopped meanwhile may still ask for it.
    switched = facts.keep(f"{Fact.GROWTH_CHOICE}{topic}:{hold}", choice) == _SWITCH
    growth, known = growth_of(facts, topic), facts.get(Fact.TOPIC + topic)
    if switched and growth is not None and known is not None:
        crash.point("relay.chosen")
        facts.put(Fact.TOPIC + topic, orjson.dumps({**orjson.loads(known), "partitions": growth.to}).decode())
    return switched


class Growing:
    """The relay's part: when to hold, whether everything was read, and the switch. One for each lead."""

    def __init__(self, settings: Settings, facts: Facts, client: AdminClient, partitions: int) -> None:
        self._topic = settings.topic_updates
        self._servers = settings.kafka_servers
        self._copies = settings.group_prefix + COPIES
        self._facts = facts
        self._admin = client
        self._partitions = partitions
        self._growth: Growth | None = None
        # When the partitions ended where: so how many seconds a group is behind.
        self._ends: deque[tuple[float, Mapping[int, int]]] = deque()
        self._hold = ""
        self._not_before = 0.0
        self._said = waits_for(facts, self._topic)
        self.ready = False

    def look(self) -> None:
        """Find out whether the relay should hold now (`ready`). It may run beside the sending.

        Does not raise if Kafka refuses a question: the relay goes on, and the reason is stored.
        """
        self.ready = False
        self._growth = growth_of(self._facts, self._topic)
        if self._growth is None or self._growth.to == self._partitions:
            return
        if time.monotonic() < self._not_before:
            return
        try:
            self.ready = self._is_near(self._growth)
        except (CustsvcError, KafkaException) as exc:
            self._failed(exc)

    def _is_near(self, growth: Growth) -> bool:
        _, partitions = layout(self._admin, self._topic, self._servers)
        if partitions != growth.to:
            self._say(f"Kafka has {partitions} partitions of {growth.to}")
            return False
        self._note_ends()
        for name in growth.awaited:
            if lacks := self._lacks(name, growth.to):
                self._say(f"no member of the group {name} has the added partition {lacks[0]} yet")
                return False
        for name in growth.ordered(self._copies):
            done = self._done(name)
            if not any(self._unread(done, ends) == 0 for _, ends in self._ends):
                unread = self._unread(done, self._ends[-1][1])
                self._say(
                    f"the group {name} is {unread} records behind; or go on without it: --without {name}"
                )
                return False
        return True

    def _note_ends(self) -> None:
        now = time.monotonic()
        self._ends.append((now, self._ends_now()))
        while self._ends[0][0] < now - _BEHIND:
            self._ends.popleft()

    def _ends_now(self) -> dict[int, int]:
        """The ends of the old partitions that hold records."""
        parts = range(self._partitions)
        begins = ends_of(self._admin, self._topic, parts, self._servers, first=True)
        ends = ends_of(self._admin, self._topic, parts, self._servers)
        return {part: end for part, end in ends.items() if end > begins[part]}

    def _lacks(self, name: str, partitions: int) -> list[int]:
        """The partitions that no member of a group has; none for a group without members."""
        assigned = groups.assigned(self._admin, name, self._topic, self._servers)
        return [] if assigned is None else [part for part in range(partitions) if part not in assigned]

    def _done(self, name: str) -> Mapping[int, int] | None:
        """What a group has committed; None if it was deleted meanwhile."""
        done = groups.committed(self._admin, name, self._topic, self._servers)
        if not done and groups.assigned(self._admin, name, self._topic, self._servers) is None:
            return None
        return done

    def _unread(self, done: Mapping[int, int] | None, ends: Mapping[int, int]) -> int:
        if done is None:
            return 0
        return sum(max(0, end - done.get(part, 0)) for part, end in ends.items())

    # -- the hold -------------------------------------------------------------------------------------------

    def begin(self, still_leading: Callable[[], object]) -> float:
        """Begin a hold: store it, so that the next leader ends it. Returns its end in monotonic seconds."""
        self._hold = uuid.uuid4().hex
        self._facts.put(Fact.GROWTH_HOLD + self._topic, self._hold)
        # Who leads after this has seen the hold.
        still_leading()
        logger.info(
            "Sending nothing for at most %g s, until all groups have read what is on %s",
            _HOLD,
            self._topic,
            extra={"action": "growth_held"},
        )
        return time.monotonic() + _HOLD

    def drained(self) -> bool:
        """Whether every group has read the old partitions to their ends. Only while nothing is sent."""
        try:
            ends = self._ends_now()
            for name in self._growth.ordered(self._copies) if self._growth else ():
                if unread := self._unread(self._done(name), ends):
                    self._say(f"the group {name} has {unread} records to read")
                    return False
        except (CustsvcError, KafkaException) as exc:
            self._failed(exc)
            return False
        return True

    def switch(self) -> bool:
        """Use the new number of partitions from now on; False if another relay leads since."""
        done = _choose(self._facts, self._topic, self._hold, _SWITCH)
        self._facts.drop(Fact.GROWTH_HOLD + self._topic)
        if done:
            self._say("")
            logger.warning("The topic %s has grown", self._topic, extra={"action": "grown"})
        return done

    def give_up(self) -> None:
        """Go on as before for a while."""
        self.ready = False
        self._facts.drop(Fact.GROWTH_HOLD + self._topic)
        self._not_before = time.monotonic() + _AGAIN
        logger.warning(
            "The topic %s does not grow yet: %s. The relay goes on, and tries again in %g s",
            self._topic,
            self._said,
            _AGAIN,
            extra={"action": "growth_waits"},
        )

    def _failed(self, exc: Exception) -> None:
        fix = getattr(exc, "fix", None)
        self._say(f"a question of the relay to Kafka failed: {exc}{f'; {fix}' if fix else ''}")

    def _say(self, text: str) -> None:
        """Store what the growth waits for; for the command and `status`."""
        if text != self._said:
            self._said = text
            self._facts.put(Fact.GROWTH_WAITS + self._topic, text)


def waits_for(facts: Facts, topic: str) -> str:
    """What the growth waits for, by the relay; empty if none has said anything."""
    return facts.get(Fact.GROWTH_WAITS + topic) or ""


class Progress(NamedTuple):
    """How far a growth is: its state in a word, what that means, and the command that goes on from there."""

    state: str
    detail: str
    fix: str


def progress_of(facts: Facts, topic: str) -> Progress | None:
    """How far the growth of this topic is; None if there is none and nothing of one is left."""
    growth, known = growth_of(facts, topic), facts.get(Fact.TOPIC + topic)
    if growth is None or known is None:
        return None
    about, again = (
        f"from {growth.was} to {growth.to} partitions",
        f"custsvc topics grow --partitions {growth.to}",
    )
    if orjson.loads(known)["partitions"] != growth.to:
        waits = waits_for(facts, topic) or "the relay has not looked yet"
        return Progress("growing", f"{about}: {waits}", again)
    if not growth.filled:
        return Progress("filling", f"{about}: not every customer was sent once more", again)
    kept = "records from before are kept, and compaction does not remove what was erased"
    return Progress("grown", f"{about}: {kept}", "custsvc topics drop-old")
