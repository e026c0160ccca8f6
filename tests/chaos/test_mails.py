"""Mixed rules, hot customers, accidents: each change is mailed once and in order, and no mail is left."""

from __future__ import annotations

import random
import re
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from custsvc.config import Settings
from custsvc.domain.customers import Fields
from custsvc.ports.endpoints import Endpoint
from tests.chaos import checker
from tests.chaos.conftest import ME, OPTIONS, Line
from tests.chaos.roles import Role
from tests.notify.conftest import Sink
from tests.notify.forked import Copy
from tests.notify.receiver import Receiver
from tests.sizes import on_one, sizes
from tests.waiting import until

DESK = "desk@example.com"
# A window has to be over soon, and a lease too: that of a process that was killed is waited for.
RULES = f"""
templates = "."
[[rule]]
name = "digest"
ops = ["updated"]
changed = ["metadata"]
template = "digest"
digest = 4
[[rule]]
name = "plain"
ops = ["updated"]
changed = ["name"]
template = "plain"
[[rule]]
name = "desk"
ops = ["updated"]
to = ["{DESK}"]
template = "desk"
digest = 3
"""
TEXT = "{{ customer_id }}:{% for event in events %} {{ event.version }}{% endfor %}\n"
POLICY = {"lease": 4.0, "idle": 0.05, "expire_every": 0.5, "retry_base": 0.2, "retry_cap": 1.0}
# A digest shows its 50 newest changes. So many come in a window only where nobody holds writers back.
PACE = 0.06
FAULTS = ["notify dies", "notify stands still", "relay dies", "replicate dies", "relay stands still"]


class Mail(NamedTuple):
    """The facts in a mail: its rule, customer, recipient and versions."""

    rule: str
    customer: int
    recipient: str
    versions: tuple[int, ...]


class Crew:
    """The roles under attack: `strike` hits one of them, and what stood still goes on at the next call."""

    def __init__(self, line: Line, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self.log = folder / "notify.log"
        self.log.touch()
        self._relays = [line.role("relay").start() for _ in range(2)]
        self._copies = [line.role("replicate").start()]
        self._senders = [self._sender() for _ in range(2)]
        self._stopped: Role | Copy | None = None

    def _sender(self) -> Copy:
        return Copy(self._settings, self.log, "", dict(POLICY))

    def strike(self, fault: str, rng: random.Random) -> None:
        self.go_on()
        who, _, how = fault.partition(" ")
        if who == "notify":
            number = rng.randrange(len(self._senders))
            sender = self._senders[number]
            if how == "dies":
                sender.kill()
                self._senders[number] = self._sender()
            else:
                sender.send_signal(signal.SIGSTOP)
                self._stopped = sender
            return
        role = rng.choice(self._relays if who == "relay" else self._copies)
        if how == "dies":
            role.kill()
            role.start()
        else:
            role.signal(signal.SIGSTOP)
            self._stopped = role

    def go_on(self) -> None:
        if isinstance(self._stopped, Copy):
            self._stopped.send_signal(signal.SIGCONT)
        elif self._stopped is not None:
            self._stopped.signal(signal.SIGCONT)
        self._stopped = None

    def close(self) -> None:
        self.go_on()
        for sender in self._senders:
            sender.kill()


@pytest.fixture
def sink() -> Iterator[Sink]:
    with closing(Sink()) as sink:
        yield sink


@pytest.fixture
def mail_settings(line: Line, sink: Sink, tmp_path: Path) -> Settings:
    (tmp_path / "notify.toml").write_text(RULES)
    for name in ("digest", "plain", "desk"):
        (tmp_path / f"{name}.txt").write_text(f"{name}\n\n{TEXT}")
    return line.settings.replace(
        webhook_allow="127.0.0.1",
        smtp_url=sink.url,
        notify_rules=str(tmp_path / "notify.toml"),
        notify_cap=0,
        notify_connections=2,
        kafka_options=OPTIONS,
    )


@pytest.fixture
def receiver(line: Line) -> Iterator[Receiver]:
    """Gets every change; now and then it says no."""
    with closing(Receiver()) as receiver:
        receiver.answers = [(500, "no"), *[(200, "ok")] * 20, (503, "away"), *[(200, "ok")] * 20]
        url = f"http://127.0.0.1:{receiver.port}/all"
        line.source.endpoints.add(Endpoint("all", url, ("created", "updated"), "t"), "whsec_AAAA")
        yield receiver


@sizes("changes, faults, customers", (300, 5, 6), (15_000, 100, 40))
@on_one("postgres")
def test_of_mixed_rules_no_mail_is_left_out_of_order_or_doubled(
    line: Line,
    mail_settings: Settings,
    sink: Sink,
    receiver: Receiver,
    tmp_path: Path,
    changes: int,
    faults: int,
    customers: int,
) -> None:
    """N14: digests beside plain mails and a webhook, hot customers; notify, relay, replicate die or stop."""
    rng = random.Random(14)
    ids = [line.create(f"name {n}", email=f"c{n}@example.com") for n in range(customers)]
    expected: dict[tuple[str, int], set[int]] = defaultdict(set)
    strikes = [FAULTS[n % len(FAULTS)] for n in range(faults)]
    with closing(Crew(line, mail_settings, tmp_path)) as crew:
        for number in range(changes):
            time.sleep(PACE)
            _change(line, ids[min(int(rng.paretovariate(0.8)) - 1, customers - 1)], rng, number, expected)
            if number % (changes // (faults + 1)) == changes // (faults + 1) - 1 and strikes:
                crew.strike(strikes.pop(0), rng)
        crew.go_on()
        line.settle_topic()
        until("each change is in the ledger", lambda: _is_queued(line, expected), 180, every=0.5)
        until("every mail is settled", lambda: not _open(line), 180, every=0.5)
        # The mails of a killed sender are settled by now; accepted ones stay accepted.
        rows = checker.mails(line.settings.backend, line.settings.url(line.settings.backend))
        log = crew.log.read_text(errors="replace")
    line.settle()

    mails = [row for row in rows if row["rule"] != "webhook"]
    assert _problems(sink, mails, expected, log) == []
    assert {row["state"] for row in rows if row["rule"] == "webhook"} == {"sent"}
    found = line.judge()
    wanted = [(customer, v) for customer, last in line.acknowledged.items() for v in range(1, last + 1)]
    checker.check_calls(wanted, checker.calls_of(body for _, _, body in receiver.got), found)
    assert found.problems == []


def _change(
    line: Line, customer: int, rng: random.Random, number: int, expected: dict[tuple[str, int], set[int]]
) -> None:
    """One change: of the metadata, of the name, or of both."""
    stored = line.source.customers.get(customer)
    assert stored is not None
    was = stored.customer().fields
    what = rng.choices(("metadata", "name", "both"), (6, 3, 1))[0]
    name = was.name if what == "metadata" else f"changed {number}"
    metadata = was.metadata if what == "name" else {"n": number}
    version = line.service.replace(customer, Fields(name, was.email, None, metadata), ME).version
    line.acknowledged[customer] = version
    expected["desk", customer].add(version)
    if what != "metadata":
        expected["plain", customer].add(version)
    if what != "name":
        expected["digest", customer].add(version)


def _open(line: Line) -> int:
    return checker.open_mails(line.settings.backend, line.settings.url(line.settings.backend))


def _is_queued(line: Line, expected: dict[tuple[str, int], set[int]]) -> bool:
    rows = checker.mails(line.settings.backend, line.settings.url(line.settings.backend))
    mails = [row for row in rows if row["rule"] != "webhook"]
    known = {(row["rule"], row["customer_id"], version) for row in mails for version in _told(row["text"])[1]}
    return all(
        (rule, customer, max(versions)) in known
        for (rule, customer), versions in expected.items()
        if versions
    )


def _told(text: str) -> tuple[int, tuple[int, ...]]:
    customer, _, versions = text.strip().partition(":")
    return int(customer), tuple(map(int, versions.split()))


def _accepted(sink: Sink) -> list[tuple[str, Mail]]:
    """The mails in the order in which they were accepted, each with its Message-ID."""
    found = []
    for accepted in sink.accepted:
        message = accepted.message
        customer, versions = _told(message.get_content())
        found.append(
            (message["Message-ID"], Mail(message["Subject"], customer, accepted.recipient, versions))
        )
    return found


def _problems(
    sink: Sink, rows: list[dict[str, Any]], expected: dict[tuple[str, int], set[int]], log: str
) -> list[str]:
    accepted = _accepted(sink)
    found = [
        f"{state}: {n} mails" for state, n in Counter(r["state"] for r in rows).items() if state not in _ENDS
    ]
    found += [f"accepted {n} times: {mail}" for mail, n in Counter(m for m, _ in accepted).items() if n > 1]

    # One whose sender was lost in the hand-over may have been accepted, or not, or later than the next one.
    lost = sum(map(int, re.findall(r"(\d+) mails may or may not have arrived", log)))
    by_id = dict(accepted)
    not_seen = [row for row in rows if row["state"] == "unknown" and f"<{row['id']}@" not in _ids(by_id)]
    told: dict[tuple[str, int], Counter[int]] = defaultdict(Counter)
    for mail in by_id.values():
        told[mail.rule, mail.customer].update(mail.versions)
    for row in not_seen:
        customer, those = _told(row["text"])
        told[row["rule"], customer].update(those)
    for (rule, customer), versions in expected.items():
        counts = told[rule, customer]
        found += [
            f"{rule}: v{v} of customer {customer} was told {counts[v]} times"
            for v in versions
            if counts[v] != 1
        ]

    last: dict[tuple[int, str], int] = {}
    late = []
    for _, mail in accepted:
        pair = (mail.customer, mail.recipient)
        if mail.versions[0] < last.get(pair, 0):
            late.append(f"after one that begins at v{last[pair]}: {mail}")
        last[pair] = max(mail.versions[0], last.get(pair, 0))
    return found + (late if len(late) > lost else [])


_ENDS = ("sent", "unknown")


def _ids(by_id: dict[str, Mail]) -> set[str]:
    return {message_id.partition("@")[0] + "@" for message_id in by_id}
