"""Where the time of single changes goes on their way to the topic, at a steady rate of writes.

Usage: python benchmarks/trace.py postgres|mongo [SECONDS [RATE]]
On the servers of CUSTSVC_POSTGRES_URL, CUSTSVC_MONGO_URL and CUSTSVC_KAFKA, in scratch databases and topics;
a copy follows, as in `custsvc bench pipeline --only latency`. A relay notes in memory when each of its steps
began and ended, and writes that down at its end. All clocks are the machine's monotonic one, so all processes
must run here. Prints for each part of the way its median, its p99 and its mean in the slowest percent of all
changes, and what the relay was doing while those waited for it.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, get_args

sys.path.insert(0, str(Path(__file__).parents[1]))

import orjson

from custsvc.bench import latency, scratch
from custsvc.bench.report import percentile
from custsvc.bench.roles import Role
from custsvc.config import Backend, Settings
from custsvc.kafka.publisher import Flight, Publisher
from custsvc.kafka.topics import ensure_topics
from custsvc.ports.outbox import Batch, Outbox
from custsvc.ports.store import Store
from custsvc.relay.acknowledged import Doubts
from custsvc.relay.relay import Relay
from custsvc.runtime import logs
from custsvc.runtime.gc import spare_batches
from custsvc.runtime.loop import Stop
from custsvc.stores import open_store

Key = tuple[int, int]


class Step(NamedTuple):
    """What the relay did from when to when; `keys`: the events that it read then."""

    name: str
    began: float
    ended: float
    keys: list[Key]


# -- the relay ----------------------------------------------------------------------------------------------


class _Notes:
    """The steps of a relay, from all of its threads."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._began = 0.0

    @contextmanager
    def step(self, name: str, keys: list[Key] | None = None) -> Iterator[list[Key]]:
        found: list[Key] = keys or []
        began = time.monotonic()
        try:
            yield found
        finally:
            self.steps.append(Step(name, began, time.monotonic(), found))

    def collected(self, phase: str, _info: dict[str, int]) -> None:
        """For `gc.callbacks`."""
        if phase == "start":
            self._began = time.monotonic()
        else:
            self.steps.append(Step("gc", self._began, time.monotonic(), []))


class _Outbox:
    """An outbox that notes what it does."""

    def __init__(self, outbox: Outbox, notes: _Notes) -> None:
        self._outbox = outbox
        self._notes = notes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._outbox, name)

    def read(self, limit: int) -> Batch:
        return self._read("read", lambda: self._outbox.read(limit))

    def ahead(self, batch: Batch, limit: int) -> Batch:
        return self._read("ahead", lambda: self._outbox.ahead(batch, limit))

    def _read(self, name: str, read: Callable[[], Batch]) -> Batch:
        with self._notes.step(name) as keys:
            batch = read()
            keys += [(event.customer_id, event.version) for event in batch.events]
        return batch

    def done(self, batch: Batch) -> None:
        with self._notes.step("mark"):
            self._outbox.done(batch)

    def wait(self, seconds: float) -> None:
        with self._notes.step("idle"):
            self._outbox.wait(seconds)


class _Store:
    """A store with such an outbox."""

    def __init__(self, store: Store, notes: _Notes) -> None:
        self._store = store
        self.outbox = _Outbox(store.outbox, notes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class _Publisher(Publisher):
    def __init__(self, settings: Settings, notes: _Notes) -> None:
        super().__init__(settings)
        self._notes = notes

    def hand_over(self, *args: Any, **options: Any) -> Flight:
        with self._notes.step("hand over"):
            return super().hand_over(*args, **options)

    def land(self, *args: Any, **options: Any) -> None:
        with self._notes.step("land"):
            super().land(*args, **options)


class _Relay(Relay):
    notes: _Notes

    def _look(self) -> Doubts:
        with self.notes.step("look at the topic"):
            return super()._look()

    def _settle(self) -> None:
        with self.notes.step("settle"):
            super()._settle()


def relay(file: Path) -> None:
    """A relay with the settings of the environment; writes its steps to the file at its end."""
    settings = Settings.load({})
    logs.set_up(settings.log_level, settings.log_format, "relay")
    spare_batches()
    notes = _Notes()
    gc.callbacks.append(notes.collected)
    ensure_topics(settings)
    with Stop().on_signals() as stop, open_store(settings) as store, _Publisher(settings, notes) as publisher:
        one = _Relay(settings, _Store(store, notes), publisher, stop)  # type: ignore[arg-type]
        one.notes = notes
        one.run()
    file.write_bytes(orjson.dumps([list(step) for step in notes.steps]))


# -- the trial ----------------------------------------------------------------------------------------------


def trial(settings: Settings, seconds: float, rate: int) -> None:
    """One run, and its report."""
    with TemporaryDirectory(prefix="custsvc-trace-") as folder:
        file = Path(folder) / "steps"
        tried = latency.Trial(settings)
        traced = (str(Path(__file__).resolve()), "relay", str(file))
        with (
            Role(settings, *traced, program=()) as leader,
            Role(settings, "replicate", "--backend", settings.other_backend) as copy,
        ):
            leader.began("leading")
            copy.began("assigned")
            written = tried.warm(seconds, rate)
        steps = [
            Step(name, began, ended, [(customer_id, version) for customer_id, version in keys])
            for name, began, ended, keys in orjson.loads(file.read_bytes())
        ]
    report(written, tried.on_topic, sorted(steps, key=lambda step: step.ended))


class Way(NamedTuple):
    """The way of one change, as times: committed, read from, read to, handed over, landed, seen."""

    committed: float
    looked: float
    read: float
    handed_over: float
    landed: float
    seen: float

    @property
    def parts(self) -> dict[str, float]:
        """Milliseconds of each part."""
        began = max(self.committed, self.looked)
        return {
            name: max(0.0, to - since) * 1000
            for name, since, to in (
                ("in all", self.committed, self.seen),
                ("until the relay looks", self.committed, began),
                ("is read", began, self.read),
                ("waits for the batch before", self.read, self.handed_over),
                ("until it is seen on the topic", self.handed_over, self.seen),
                ("(until Kafka has acknowledged it)", self.handed_over, self.landed),
            )
        }


def ways(written: dict[Key, float], seen: dict[Key, float], steps: Sequence[Step]) -> list[Way]:
    """The ways of all changes. The batches are handed over in the order in which they were read."""
    batches = [step for step in steps if step.keys]
    sent = [step.ended for step in steps if step.name == "hand over"]
    landed = [step.ended for step in steps if step.name == "land"]
    found: list[Way] = []
    for batch, over, down in zip(batches, sent, landed, strict=False):
        found += [
            Way(written[key], batch.began, batch.ended, over, down, seen[key])
            for key in batch.keys
            if key in written
        ]
    return found


def report(written: dict[Key, float], seen: dict[Key, float], steps: Sequence[Step]) -> None:
    """Print the parts of the way, and what the relay did while the slowest waited for it to look."""
    found = sorted(ways(written, seen, steps), key=lambda way: way.seen - way.committed)
    slow = found[-max(1, len(found) // 100) :]
    say(f"{len(found)} changes; milliseconds: median, p99, mean of the slowest {len(slow)}")
    for name in found[0].parts:
        took = [way.parts[name] for way in found]
        slowest = fmean(way.parts[name] for way in slow)
        say(f"  {name:36} {percentile(took, 0.5):7.1f} {percentile(took, 0.99):7.1f} {slowest:7.1f}")
    say("the relay's steps: how many, milliseconds: median, p99, most; while a slow one waited")
    for name in sorted({step.name for step in steps}):
        these = [step for step in steps if step.name == name]
        took = [(step.ended - step.began) * 1000 for step in these]
        during = fmean(overlap(way, these) for way in slow)
        say(
            f"  {name:36} {len(these):6} {percentile(took, 0.5):7.1f} {percentile(took, 0.99):7.1f} "
            f"{max(took):7.1f} {during:7.1f}"
        )
    say("some of the slowest: seconds since the first change, and the parts of the way as above")
    start = min(way.committed for way in found)
    for way in slow[:: len(slow) // 20 + 1]:
        took = " ".join(f"{part:6.1f}" for part in way.parts.values())
        say(f"  {way.committed - start:8.3f} {took}")


def overlap(way: Way, steps: Iterable[Step]) -> float:
    """For how many milliseconds of these steps a change waited to be read."""
    until = max(way.committed, way.looked)
    return 1000 * sum(max(0.0, min(until, step.ended) - max(way.committed, step.began)) for step in steps)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")


def main() -> None:
    """The command line above."""
    what, *more = sys.argv[1:] or [""]
    if what == "relay":
        relay(Path(more[0]))
        return
    if what not in get_args(Backend):
        sys.exit(__doc__)
    seconds, rate = [float(each) for each in more] + [20.0, 500.0][len(more) :]
    settings = Settings.load({"backend": what}).replace(event_format="json")
    with scratch.databases(settings, *get_args(Backend)) as s, scratch.topics(s) as s:
        trial(s, seconds, int(rate))


if __name__ == "__main__":
    main()
