"""Any schedule of changes, claims, failures and clock jumps ends with every change mailed once, in order."""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from custsvc.config import Settings
from custsvc.domain.customers import Customer, Fields, Stored, utc_now
from custsvc.domain.events import new_change
from custsvc.domain.received import ReceivedEvent, decode
from custsvc.notify.intake import digest
from custsvc.notify.intake.digest import Digests
from custsvc.notify.intake.notifications import notifications_of
from custsvc.notify.rules.file import load
from custsvc.notify.rules.rules import Rules
from custsvc.ports.ledger import UNSETTLED, Ledger, Notification, NotificationState, Settlement
from custsvc.ports.store import Store
from tests.backdoor import Backdoor
from tests.steps import hand_over, settle

LEASE = 60.0
FIELDS = ("name", "phone", "metadata")
CLOCKS: tuple[str | float, ...] = ("", "2036-01-01T00:00:00.000Z", -40.0, -7200.0, 0.0, 0.0, 0.0, 30.0)
ENDS: tuple[NotificationState, ...] = ("sent", "sent", "sent", "failed", "suppressed")

# The possible events. A change names the customers and their fields; the rest is drawn from the seed.
RULE = st.builds(
    lambda changed, digest, desk: (tuple(sorted(changed)), digest, desk),
    st.sets(st.sampled_from(FIELDS), max_size=2),
    st.sampled_from([0, 0, 5, 20, 600]),
    st.booleans(),
)
STEP = st.one_of(
    st.tuples(st.just("change"), st.integers(1, 12)),
    st.tuples(st.just("change"), st.integers(1, 12)),
    st.tuples(st.just("come again"), st.integers(1, 20)),
    st.tuples(st.just("send"), st.integers(1, 10)),
    st.tuples(st.just("send"), st.integers(1, 10)),
    st.tuples(st.just("a sender dies"), st.integers(1, 3)),
    st.tuples(st.just("time passes"), st.sampled_from([1, 4, 15, 61, 700])),
    st.tuples(st.just("an older version wrote"), st.just(1)),
)
SCHEDULE = st.tuples(
    st.lists(RULE, min_size=2, max_size=4), st.lists(STEP, min_size=4, max_size=30), st.integers(0, 2**16)
)


class World:
    """Customers, a ledger, its senders, and what each mail told."""

    def __init__(self, ledger: Ledger, backdoor: Backdoor, rules: Rules, seed: int, first_id: int) -> None:
        self.ledger = ledger
        self.backdoor = backdoor
        self.rules = rules
        self.rng = random.Random(seed)
        self.digests = Digests(ledger, rules)
        self.customers = [_customer(first_id + n) for n in range(3)]
        self.events: list[ReceivedEvent] = []
        self.told: dict[tuple[int, str], list[Notification]] = defaultdict(list)
        self.steps: dict[str, Callable[[int], None]] = {
            "change": self.change,
            "come again": self.come_again,
            "send": self.send,
            "a sender dies": self.sender_dies,
            "time passes": self.time_passes,
            "an older version wrote": self.older_version,
        }

    def take(self, step: tuple[str, int]) -> None:
        name, number = step
        self.steps[name](number)
        assert self.ledger.stuck() == 0, f"after {step}"

    def change(self, count: int) -> None:
        """A batch of so many changes of any customers."""
        batch = []
        for _ in range(count):
            which = self.rng.randrange(len(self.customers))
            self.customers[which], event = _changed(self.customers[which], self.rng)
            batch.append(event)
        self.events += batch
        self._take_in(batch)

    def come_again(self, count: int) -> None:
        self._take_in(self.events[-count:])

    def _take_in(self, events: list[ReceivedEvent]) -> None:
        rows = [row for event in events for row in notifications_of(event, self.rules, None)]
        self.digests.add(rows, behind=self.rng.choice((0.0, 0.0, 30.0)))

    def send(self, limit: int) -> None:
        """Claim, and end each somehow; now and then give one back, defer one, or lose one's answer."""
        claimed = self.ledger.claim(limit, LEASE)
        pairs = Counter((each.customer_id, each.recipient, each.order) for each in claimed)
        assert len({(customer, to) for customer, to, _ in pairs}) == len(pairs), "two of one pair at once"
        for each in claimed:
            what = self.rng.random()
            if what < 0.1:
                settle(self.ledger, each, "queued", count_attempt=False)
            elif what < 0.2:
                due = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=self.rng.choice((1, 30)))
                settle(self.ledger, each, "deferred", next_at=due)
            else:
                assert hand_over(self.ledger, each)
                self._told(each)
                assert self.ledger.advance([], [Settlement(each, self.rng.choice(ENDS))]).settled == {each.id}

    def _told(self, mail: Notification) -> None:
        assert mail.customer_id is not None
        before = self.told[mail.customer_id, mail.recipient]
        assert all(each.order <= mail.order for each in before), f"{mail.id} goes before what was sent"
        before.append(mail)

    def sender_dies(self, count: int) -> None:
        """Its claimed mails come back, those in the hand-over are unknown."""
        for each in self.ledger.claim(count, LEASE):
            if self.rng.random() < 0.5:
                assert hand_over(self.ledger, each)
                self._told(each)
        self.backdoor.pass_time(LEASE + 1)
        self.ledger.expire()

    def time_passes(self, seconds: int) -> None:
        self.backdoor.pass_time(seconds)
        self.ledger.expire()

    def older_version(self, _: int) -> None:
        """Rows as a version wrote them that did not keep the first event's version."""
        those = [row.id for row in self.ledger.recent(limit=1000) if row.order == row.version]
        self.backdoor.write_as_before(those or ["none"])

    # -- the end

    def end(self) -> None:
        for _ in range(200):
            self.send(50)
            self.backdoor.pass_time(700)
            self.ledger.expire()
            if not self.ledger.counts(UNSETTLED):
                break
        assert self.ledger.counts(UNSETTLED) == {}, "mails wait for ever"
        self._check_told()

    def _check_told(self) -> None:
        """Each event is told once by each rule that calls for it."""
        found: Counter[tuple[str, int, int]] = Counter()
        for mails in self.told.values():
            assert len({mail.id for mail in mails}) == len(mails)
            for mail in mails:
                versions = _versions(mail)
                assert (versions[0], versions[-1]) == (mail.order, mail.version)
                found.update((mail.rule, mail.customer_id or 0, version) for version in versions)
        wanted = Counter(
            (rule.name, event.customer_id, event.version)
            for event in self.events
            for rule, _ in self.rules.matches(event)
        )
        assert found == wanted


def _versions(mail: Notification) -> list[int]:
    if mail.entries is None:
        return [mail.version]
    return [event["version"] for event in orjson.loads(mail.entries)["events"]]


def _customer(customer_id: int) -> Customer:
    now = utc_now()
    fields = Fields("Ada", f"c{customer_id}@example.com")
    return Customer(customer_id, fields, False, 1, now, "t", now, "t")


def _changed(before: Customer, rng: random.Random) -> tuple[Customer, ReceivedEvent]:
    was, version = before.fields, before.version + 1
    what = rng.sample(FIELDS, rng.choice((1, 1, 2)))
    fields = Fields(
        f"Ada {version}" if "name" in what else was.name,
        was.email,
        f"+41 {version}" if "phone" in what else was.phone,
        {"n": version} if "metadata" in what else was.metadata,
    )
    after = before.changed_to(fields=fields, deleted=False, now=utc_now(), by="t")
    stored = Stored(before.id, before.version, False, before.encode())
    event = decode(new_change("updated", stored, after, actor="t").event.payload, b"%d" % before.id)
    clock = rng.choice(CLOCKS)
    if isinstance(clock, float):
        clock = (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=clock)).isoformat()
    return after, event._replace(event_ts=clock)


def _rules(folder: Path, given: list[tuple[tuple[str, ...], int, bool]]) -> Rules:
    lines = []
    for number, (changed, window, desk) in enumerate(given):
        lines += ["[[rule]]", f'name = "r{number}"', 'ops = ["updated"]', 'template = "changed"']
        lines += [f"digest = {window}", *([f"changed = {list(changed)}"] if changed else [])]
        lines += ['to = ["desk@example.com"]'] if desk else []
    path = folder / "notify.toml"
    path.write_text("\n".join(lines))
    return load(Settings(notify_rules=str(path)))


@pytest.fixture
def ends_well(
    store: Store, backdoor: Backdoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Any], None]:
    """Runs a schedule on customers of its own. A ledger is left without anything that waits."""
    monkeypatch.setattr(digest, "_EVENTS_MAX", 1_000_000)  # so that each mail names all that it tells of
    runs = iter(range(1, 1 << 30))

    def run(schedule: Any) -> None:
        rules, steps, seed = schedule
        world = World(store.ledger, backdoor, _rules(tmp_path, rules), seed, 10 * next(runs))
        for step in steps:
            world.take(step)
        world.end()

    return run


@given(schedule=SCHEDULE)
@settings(max_examples=10)
def test_any_schedule_mails_each_change_once_and_in_order(
    ends_well: Callable[[Any], None], schedule: Any
) -> None:
    ends_well(schedule)


@pytest.mark.long
@pytest.mark.timeout(7200)
@given(schedule=SCHEDULE)
@settings(max_examples=2000)
def test_two_thousand_schedules_mail_each_change_once_and_in_order(
    ends_well: Callable[[Any], None], schedule: Any
) -> None:
    ends_well(schedule)
