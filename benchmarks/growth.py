"""Whether a request, an event and an apply cost the same however many customers there are.

Usage: python benchmarks/growth.py postgres|mongo [SIZES] [--quick] [--only WORDS] [--rounds N] [--seconds S]
                                   [--cache MB] [--folder FOLDER] [--lists-last] [--save FOLDER]
Databases of SIZES customers (50000,5000000) stand side by side in one server of its own, and take turns. Each
figure is the median of the rounds: microseconds of processor time for a unit of work, of our process and of
the database's, and milliseconds. The ratio is that of the largest to the smallest.
With --folder the databases stay there, and the next run goes on with them; a seed that was interrupted, too.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, get_args

import chart
import costs
import grown
import orjson
import roomy
from costs import Clock, Cost, Work
from grown import Grown
from rich.console import Console
from rich.table import Table

from custsvc.bench import api, http, postgres, report, scratch
from custsvc.bench.roles import Role, until
from custsvc.config import Backend
from custsvc.kafka.reader import Reader

_PATIENCE = 600.0
# From this many customers on, work on all of them takes long enough to do it once.
_LONG = 1_000_000
_SAVE = Path(__file__).parents[1] / "docs" / "benchmarks"
_KINDS: tuple[http.Kind, ...] = ("get", "list", "post", "put")

Row = dict[str, Any]


class Run:
    """The rounds over all sizes. `events`: how many wait for a relay, and how many are applied."""

    def __init__(self, sides: Sequence[Grown], database: int, options: argparse.Namespace) -> None:
        self._sides = sides
        self._database = database
        self._options = options
        self._events = min(options.events, *(side.size for side in sides))
        self._found: dict[tuple[str, str], dict[int, list[Cost]]] = {}

    def measure(self) -> Iterator[list[Row]]:
        """Each work on each side by turns; after each stage of a round the rows of the medians until then."""
        rounds = self._options.rounds
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}; load {os.getloadavg()[0]:.1f}")
            self.requests(number)
            yield self.rows()
        for number in range(max(1, rounds // 2)):
            for stage in (self.over_http, self.events):
                stage(number)
                yield self.rows()
        for number in range(rounds):
            self.walks(number)
            yield self.rows()

    def rows(self) -> list[Row]:
        """The medians of what was measured until now."""
        return [_row(*key, found) for key, found in self._found.items()]

    def requests(self, number: int) -> None:
        """A round of requests to the service and the store, without HTTP."""
        for work in costs.REQUESTS:
            self._by_turns(number, work.name, work.unit, self._of(work))
        self._settle()

    def walks(self, number: int) -> None:
        """A round of work on all customers."""
        for work in costs.WALKS:
            self._by_turns(number, work.name, work.unit, self._of(work), whole=True)

    def _of(self, work: Work) -> Callable[[Grown], Cost]:
        return partial(work.turn, database=self._database, seconds=self._options.seconds)

    def _by_turns(
        self, number: int, name: str, unit: str, turn: Callable[[Grown], Cost], *, whole: bool = False
    ) -> None:
        if self._options.only not in name:
            return
        # The other one begins in every second round.
        for side in self._sides if number % 2 == 0 else reversed(self._sides):
            if whole and number and side.size >= _LONG:
                continue
            cost = turn(side)
            self._found.setdefault((name, unit), {}).setdefault(side.size, []).append(cost)
            say(
                f"  {name}, {side.size:,}: {cost.ms:.3f} ms, {cost.ours:.1f} + {cost.database:.1f} µs, "
                f"{cost.log:,.0f} bytes of log, {cost.reads:.2f} reads"
            )

    def _settle(self) -> None:
        """Between turns: send what waits, and let no side pay for the writes of the other."""
        for side in self._sides:
            costs.send(side)
            side.tidy()
            if side.store.name == "postgres":
                postgres.checkpoint(side.settings.postgres_url)

    def over_http(self, number: int) -> None:
        """A round of requests to `serve`, which wrk sends."""
        if not any(self._options.only in f"HTTP {kind}" for kind in _KINDS):
            return
        with ExitStack() as stack:
            served = {side.size: stack.enter_context(api.served(side.settings)) for side in self._sides}
            for kind in _KINDS:
                self._by_turns(number, f"HTTP {kind}", "request", partial(self._load, served, kind))
        self._settle()

    def _load(self, served: dict[int, tuple[http.Target, Role]], kind: http.Kind, side: Grown) -> Cost:
        target, role = served[side.size]
        http.load(target, kind, customers=side.size, seconds=1)
        clock = Clock(side, self._database, role.pid)
        found = http.load(target, kind, customers=side.size, seconds=max(1.0, 8 * self._options.seconds))
        side.changed += found.requests if kind in ("put", "post") else 0
        return clock.cost(found.requests)

    def events(self, number: int) -> None:
        """A round of events: written in bulk, sent by the relay, applied to a copy."""
        self._by_turns(number, "change in bulk", "customer", self._changing)
        self._by_turns(number, "relay", "event", self._relaying)
        for kind, made in (
            ("new", costs.new_records),
            ("changed", costs.changed_records),
            ("hot", costs.hot_records),
        ):
            self._by_turns(number, f"apply, {kind}", "event", partial(self._applying, made))

    def _changing(self, side: Grown) -> Cost:
        costs.send(side)
        clock = Clock(side, self._database)
        return clock.cost(costs.change(side, self._events))

    def _relaying(self, side: Grown) -> Cost:
        """What the relay takes from the moment it leads until all that waits is on the topic."""
        if not (waiting := side.store.outbox.depth().waiting):
            waiting = costs.change(side, self._events)
        self._checkpoint(side)
        with scratch.topics(side.settings) as settings, Reader(settings) as topic:
            parts = topic.partitions()

            def sent() -> bool:
                return sum(high for _, high in topic.marks(parts).values()) >= waiting

            with Role(settings, "relay") as role:
                role.began("leading")
                clock = Clock(side, self._database, role.pid)
                until(sent, _PATIENCE, "the relay sends what waits")
                until(lambda: not side.store.outbox.depth().waiting, _PATIENCE, "all is marked as sent")
                return clock.cost(waiting)

    def _applying(self, made: Callable[[Grown, int], costs.Records], side: Grown) -> Cost:
        records = made(side, self._events)
        self._checkpoint(side)
        clock = Clock(side, self._database)
        cost = clock.cost(costs.apply(side, records))
        costs.remove_new(side)
        return cost

    @staticmethod
    def _checkpoint(side: Grown) -> None:
        if side.store.name == "postgres":
            postgres.checkpoint(side.settings.postgres_url)


def _row(name: str, unit: str, found: dict[int, list[Cost]]) -> Row:
    middle = {size: Cost(*map(median, zip(*each, strict=True))) for size, each in sorted(found.items())}
    small, big = middle[min(middle)], middle[max(middle)]
    return {
        "measure": name,
        "unit": unit,
        "sizes": {
            str(size): {part: round(value, 3) for part, value in cost._asdict().items()}
            for size, cost in middle.items()
        },
        "ratio": {
            "ms": _ratio(big.ms, small.ms),
            "ours": _ratio(big.ours, small.ours),
            "database": _ratio(big.database, small.database),
            "processor": _ratio(big.ours + big.database, small.ours + small.database),
        },
        "rounds": min(map(len, found.values())),
    }


def _ratio(big: float, small: float) -> float | None:
    return round(big / small, 2) if small else None


def _table(rows: Sequence[Row], backend: str) -> Table:
    sizes = list(rows[0]["sizes"])
    table = Table(f"{backend}: µs of ours + database's", *(f"{int(size):,}" for size in sizes), "ratio", "ms")
    for row in rows:
        cells = [
            f"{row['sizes'][size]['ours']:,.0f} + {row['sizes'][size]['database']:,.0f}" for size in sizes
        ]
        table.add_row(row["measure"], *cells, f"{row['ratio']['processor']}", f"{row['ratio']['ms']}")
    return table


def _chart(rows: Sequence[Row], backend: str) -> str:
    groups = [
        (
            f"{row['measure']}, a {row['unit']}",
            [
                (f"{int(size):,} customers", round(cost["ours"] + cost["database"], 1))
                for size, cost in row["sizes"].items()
            ],
        )
        for row in rows
    ]
    most = max(int(size) for size in rows[0]["sizes"])
    title = f"Growth on {backend}"
    return chart.bars(title, groups, "µs of processor time, ours and the database's", ours=f"{most:,} ")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks/run.sh growth", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("backend", choices=get_args(Backend))
    parser.add_argument("sizes", nargs="?", default="50000,5000000", help="numbers of customers")
    parser.add_argument("--quick", action="store_true", help="20,000 and 200,000 customers, one round")
    parser.add_argument("--only", default="", help="only work with this in its name")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of processor time of each turn")
    parser.add_argument("--events", type=int, default=50_000, help="that wait, and that are applied")
    parser.add_argument("--cache", type=int, default=_quarter_mb(), help="of the database, in MB")
    parser.add_argument(
        "--lists-last", action="store_true", help="make the indexes of lists after the customers"
    )
    parser.add_argument("--folder", type=Path, help="where the databases stay")
    parser.add_argument("--save", type=Path, default=_SAVE, help="folder for figures and chart")
    options = parser.parse_args()
    if options.quick:
        options.sizes, options.rounds, options.seconds, options.events = "20000,200000", 1, 0.25, 10_000
    options.sizes = sorted(int(each) for each in options.sizes.replace("_", "").split(","))
    return options


def _quarter_mb() -> int:
    """A quarter of this machine's memory, which is what PostgreSQL's manual recommends."""
    return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 4 / 2**20)


@contextmanager
def _folder(options: argparse.Namespace) -> Iterator[Path]:
    if options.folder:
        yield options.folder
        return
    with tempfile.TemporaryDirectory(prefix="custsvc-bench-") as folder:
        yield Path(folder)


def main() -> None:
    """The command line above."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the servers are stopped then, too
    machine = report.facts() | {"cache_mb": options.cache}
    with ExitStack() as stack:
        folder = stack.enter_context(_folder(options))
        settings, database = stack.enter_context(roomy.running(folder, options.backend, options.cache))
        sides = [
            stack.enter_context(
                grown.filled(
                    grown.database_of(settings, size), size, database, say, lists_last=options.lists_last
                )
            )
            for size in options.sizes
        ]
        rooms = {str(side.size): _room(side) for side in sides}
        rows: list[Row] = []
        for rows in Run(sides, database, options).measure():
            _save(options, {"machine": machine, "bytes": rooms, "measures": rows})
    if rows:
        Console(width=120).print(_table(rows, options.backend))


def _save(options: argparse.Namespace, found: dict[str, Any]) -> None:
    """Write figures and chart; a run that is stopped leaves those until then."""
    options.save.mkdir(parents=True, exist_ok=True)
    name = "-".join(filter(None, ("growth", options.backend, options.only.replace(" ", "-"))))
    text = orjson.dumps(found, option=orjson.OPT_INDENT_2)
    (options.save / f"{name}.json").write_bytes(text + b"\n")
    if found["measures"]:
        (options.save / f"{name}.svg").write_text(
            _chart(found["measures"], options.backend), encoding="utf-8"
        )


def _room(side: Grown) -> Row:
    room = grown.sizes(side.store, side.settings.url(side.settings.backend))
    for table, rows, indexes in grown.per_customer(room, side.size):
        say(f"{side.size:,}: {table} takes {rows:,.0f} bytes a customer, and {indexes:,.0f} in indexes")
    return {**room, "seeding": side.seeding}


def say(text: str) -> None:
    """A line of progress."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


if __name__ == "__main__":
    main()
