"""Cursors of shards: however transactions commit, no event is lost, and each customer stays in order."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from custsvc.stores.postgres.snapshots import BEGINNING, Cursor, common, covers, is_ahead, joined


def visible(snapshot: str, txid: int) -> bool:
    """As PostgreSQL's pg_visible_in_snapshot."""
    _, xmax, xip = snapshot.split(":")
    return txid < int(xmax) and str(txid) not in xip.split(",")


def is_sent(cursor: Cursor, txid: int, seq: int) -> bool:
    if visible(cursor.prev, txid):
        return True
    return cursor.target is not None and visible(cursor.target, txid) and seq <= cursor.last_seq


class Database:
    """Customers, events and transactions, as PostgreSQL and custsvc's writers make them."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.next_txid, self.next_seq = 3, 1
        # Of each open transaction, the customers that it has locked.
        self.open: dict[int, set[int]] = {}
        self.events: list[tuple[int, int, int, int]] = []  # seq, txid, customer, version
        self.versions: dict[int, int] = defaultdict(int)

    def begin(self) -> None:
        self.open[self.next_txid] = set()
        self.next_txid += 1

    def write(self) -> None:
        """A change in an open transaction, of a customer that no other one has locked."""
        if not self.open:
            return
        txid = self.rng.choice(list(self.open))
        customer = self.rng.randrange(8)
        if any(customer in locked for other, locked in self.open.items() if other != txid):
            return
        self.open[txid].add(customer)
        self.versions[customer] += 1
        self.events.append((self.next_seq, txid, customer, self.versions[customer]))
        self.next_seq += self.rng.randrange(1, 3)

    def commit(self) -> None:
        if self.open:
            del self.open[self.rng.choice(list(self.open))]

    def snapshot(self) -> str:
        running = sorted(self.open)
        return f"{running[0] if running else self.next_txid}:{self.next_txid}:{','.join(map(str, running))}"


class Relays:
    """A division: one cursor for each share, and the one of the whole outbox behind them all."""

    def __init__(self, database: Database) -> None:
        self.db = database
        self.whole = Cursor(BEGINNING, None, 0)
        self.shares = [self.whole]
        self.sent: dict[int, list[int]] = defaultdict(list)

    def read(self, number: int, limit: int, *, is_marked: bool) -> int:
        """Send what `PostgresOutbox.read` gives; a leader that dies marks nothing."""
        prev, target, last_seq = self.shares[number]
        if target is None:
            target, last_seq = self.db.snapshot(), 0
        window = sorted(
            (seq, customer, version)
            for seq, txid, customer, version in self.db.events
            if visible(target, txid) and not visible(prev, txid) and seq > last_seq
        )
        ours = [each for each in window if each[1] % len(self.shares) == number]
        for _, customer, version in ours[:limit]:
            self.sent[customer].append(version)
        if is_marked:
            finished = len(ours) <= limit
            after = Cursor(target, None, 0) if finished else Cursor(prev, target, ours[limit - 1][0])
            self.shares[number] = after
        return len(ours)

    def join(self) -> None:
        now = joined(self.shares)
        if is_ahead(now, self.whole):
            self.whole = now

    def divide(self, shares: int) -> None:
        self.join()
        self.shares = [self.whole] * shares

    def check(self) -> None:
        """What the whole counts as sent is sent; first sendings are in order."""
        for seq, txid, customer, version in self.db.events:
            assert not is_sent(self.whole, txid, seq) or version in self.sent[customer]
        for versions in self.sent.values():
            firsts = list(dict.fromkeys(versions))
            assert firsts == list(range(1, len(firsts) + 1))


@pytest.mark.parametrize("seed", range(100))
def test_nothing_is_lost_and_each_customer_stays_in_order(seed: int) -> None:
    rng = random.Random(seed)
    db = Database(rng)
    relays = Relays(db)
    steps = [db.begin, db.write, db.write, db.write, db.commit, db.commit, relays.join]

    for _ in range(200):
        rng.choice(steps)()
        if rng.random() < 0.5:
            marks = rng.random() < 0.9
            relays.read(rng.randrange(len(relays.shares)), rng.randrange(1, 5), is_marked=marks)
        if rng.random() < 0.05:
            relays.divide(rng.randrange(1, 5))
        relays.check()
    while db.open:
        db.commit()
    for number in range(len(relays.shares)):
        # The rest of a window, then new ones until one has none of ours.
        while relays.shares[number].target is not None or relays.read(number, 3, is_marked=True):
            if relays.shares[number].target is not None:
                relays.read(number, 3, is_marked=True)
    relays.join()
    relays.check()

    assert {customer: max(versions) for customer, versions in relays.sent.items()} == dict(db.versions)
    # One window for all at the end: it joins exactly.
    relays.divide(1)
    assert all(is_sent(relays.whole, txid, seq) for seq, txid, _, _ in db.events)


@pytest.mark.parametrize("seed", range(200))
def test_what_snapshots_have_in_common_is_what_all_of_them_see(seed: int) -> None:
    rng = random.Random(seed)

    def one() -> str:
        xmax = rng.randrange(3, 14)
        running = sorted(x for x in range(3, xmax) if rng.random() < 0.3)
        return f"{running[0] if running else xmax}:{xmax}:{','.join(map(str, running))}"

    some = [one() for _ in range(rng.randrange(1, 4))]
    both = common(some)

    assert all(visible(both, x) == all(visible(each, x) for each in some) for x in range(3, 20))
    assert all(covers(each, both) for each in some)
    assert all(
        all(visible(one, x) for x in range(3, 20) if visible(other, x))
        for one in some
        for other in some
        if covers(one, other)
    )
