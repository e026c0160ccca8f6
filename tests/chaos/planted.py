"""Thirteen bugs that systems like this one really had, each as a change of one source file, to be planted.

They are planted into a copy of the package in a temporary folder, never here, to see that a scenario catches
each. Where the text that a bug changes is gone, or what it adds is not called any more, the code has changed:
adapt the bug, do not drop it.
"""

from __future__ import annotations

import ast
import shutil
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Bug(NamedTuple):
    """A bug: its effect, the scenario and the test that catch it, and the edits that plant it."""

    name: str
    scenario: str
    test: str
    # Per file the texts to be replaced; an empty text stands for the end of the file.
    changes: dict[str, list[tuple[str, str]]]


_EVENTS = "domain/received.py"
_OUTBOX = "stores/postgres/outbox.py"
_REPLICA = "stores/postgres/replica.py"
_RELAY = "relay/relay.py"
_COPY = "copies/replicate.py"
_CONSUME = "kafka/consume.py"
_KAFKA = "kafka/client.py"

_LATE = (
    "chaos/test_scenarios.py::test_events_that_commit_late_between_others_are_all_delivered[postgres-10-0.1]"
)
_OPEN = (
    "contract/test_outbox.py::"
    "test_nothing_is_lost_or_out_of_order_while_many_write_and_one_transaction_stays_open[postgres-25]"
)
_RELAY_DIES = (
    "chaos/test_crashes.py::test_a_relay_that_dies_loses_nothing_and_repeats_at_most_its_batch[postgres-{}-1]"
)
_COPY_DIES = (
    "chaos/test_crashes.py::test_a_copy_that_dies_goes_on_where_it_was_and_dead_letters_bad_records[mongo-{}]"
)
_LATE_UPDATE = (
    "contract/test_replica.py::test_an_update_that_is_late_does_not_bring_a_deleted_customer_back[postgres-1]"
)

BUGS = [
    Bug(
        "the outbox is read by serial number",
        "O1",
        _LATE,
        {
            _OUTBOX: [
                (
                    "",
                    """
def _read(self, limit):
    serial = Statement(
        "serial",
        "bigint, integer",
        f"SELECT {COLUMNS} FROM customer_event e WHERE e.seq > $1 ORDER BY e.seq LIMIT $2",
    )
    rows = self._run(serial, (self._cursor.last_seq, limit))
    return self._batch(BEGINNING, BEGINNING, rows, finished=False) if rows else Batch()


PostgresOutbox.read = _read
PostgresOutbox.ahead = lambda self, batch, limit: Batch()
""",
                )
            ]
        },
    ),
    Bug(
        "the outbox is read up to the oldest open transaction, in the order of transactions",
        "O3",
        _OPEN,
        {
            _OUTBOX: [
                (
                    "",
                    """
def _read(self, limit):
    seen = self.__dict__.setdefault("_sent", set())
    xmin = Statement(
        "xmin",
        "integer",
        f"SELECT {COLUMNS} FROM customer_event e "
        "WHERE e.txid < pg_snapshot_xmin(pg_current_snapshot()) AND $1 > 0 ORDER BY e.txid",
    )
    rows = [row for row in self._run(xmin, (limit,)) if row[0] not in seen][:limit]
    seen.update(row[0] for row in rows)
    return self._batch(BEGINNING, BEGINNING, rows, finished=False) if rows else Batch()


PostgresOutbox.read = _read
PostgresOutbox.ahead = lambda self, batch, limit: Batch()
""",
                )
            ]
        },
    ),
    Bug(
        "the cursor is saved before Kafka has acknowledged",
        "O5",
        _RELAY_DIES.format("relay.produced"),
        {_RELAY: [('crash.point("relay.read")\n', "self._outbox.done(batch)\n")]},
    ),
    Bug(
        "the position is committed before the batch is applied",
        "R4",
        _COPY_DIES.format("replicate.dead_lettered"),
        {
            _COPY: [
                (
                    'crash.point("replicate.dead_lettered")\n',
                    "self._replica.apply([], self._topic, positions)\n"
                    '        crash.point("replicate.dead_lettered")\n',
                )
            ]
        },
    ),
    Bug(
        "an older version overwrites a newer one",
        "R3",
        _LATE_UPDATE,
        {_REPLICA: [("WHERE excluded.version > c.version", "WHERE true")]},
    ),
    Bug(
        "a deleted customer leaves no trace in the copy",
        "R3",
        _LATE_UPDATE,
        {
            _REPLICA: [
                (
                    "",
                    """
_whole = PostgresReplica._write


def _write(self, *batch):
    applied = _whole(self, *batch)
    with self._connections.cursor() as cursor:
        cursor.execute("DELETE FROM customer WHERE deleted")
    return applied


PostgresReplica._write = _write
""",
                )
            ]
        },
    ),
    Bug(
        "an empty copy begins at the end of the topic",
        "R1",
        "chaos/test_copy_faults.py::test_the_whole_topic_three_times_more_writes_nothing[postgres-50-3]",
        {
            _CONSUME: [
                ("known.get(part, OFFSET_BEGINNING)", "known.get(part, -1)"),
            ]
        },
    ),
    Bug(
        "offsets are committed by the clock, and are what counts",
        "R11",
        "chaos/test_copy_faults.py::test_a_copy_restored_from_a_backup_catches_up_by_itself[postgres]",
        {
            _KAFKA: [
                ('"enable.auto.commit": False', '"enable.auto.commit": True'),
                ('"enable.auto.offset.store": False', '"enable.auto.offset.store": True'),
            ],
            _COPY: [("positions=replica.begin", "positions=None")],
        },
    ),
    Bug(
        "what the producer says of failures is not listened to",
        "O12",
        "chaos/test_relay_faults.py::"
        "test_a_relay_replaces_a_producer_with_a_fatal_error_and_reads_the_batch_again",
        {"kafka/publisher.py": [("            self.errors.append(error)", "            pass")]},
    ),
    Bug(
        "a mail is marked as sent before it is sent",
        "N1",
        "notify/test_run.py::test_a_process_killed_before_the_hand_over_costs_nothing[postgres]",
        {
            "notify/sending/sender.py": [
                (
                    'crash.point("notify.claimed")\n',
                    'self._settle(*(Settlement(each, "sent") for each in claimed))\n',
                )
            ]
        },
    ),
    Bug(
        "offsets are committed when records are fetched, and are what counts",
        "R4",
        _COPY_DIES.format("replicate.taken"),
        {
            _CONSUME: [
                (
                    "left = self._handle(messages, offsets)\n",
                    "client.commit(offsets=[TopicPartition(*w, o) for w, o in"
                    " offsets.items()], asynchronous=False);"
                    " left = self._handle(messages, offsets)\n",
                )
            ],
            _COPY: [("positions=replica.begin", "positions=None")],
        },
    ),
    Bug(
        "batches are not sorted",
        "R8",
        "contract/test_replica.py::test_several_that_apply_the_same_customers_at_once_all_succeed[postgres-2]",
        {
            _EVENTS: [("for customer_id in sorted(found)", "for customer_id in found")],
            _REPLICA: [(" FROM incoming ORDER BY id", " FROM incoming")],
        },
    ),
    Bug(
        "records have no key",
        "O5",
        _RELAY_DIES.format("relay.saved"),
        {_RELAY: [('yield Record(b"%d" % event.customer_id,', "yield Record(None,")]},
    ),
]


def plant(bug: Bug, folder: Path) -> Path:
    """A checkout in `folder` whose package has this bug, and notes there what of it was called."""
    package = folder / "custsvc"
    shutil.copytree(ROOT / "custsvc", package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(Path(__file__).with_name("witness.py"), package)
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "tests").symlink_to(ROOT / "tests")
    for mark, (name, old, new) in _marked(bug).items():
        path = package / name
        text = path.read_text()
        assert text.count(old) == 1 or not old, f"{name} has no (one) place to plant “{bug.name}”: {old}"
        before, after = text.split(old) if old else (text + "\n", "")
        first = before.count("\n") + 1
        places = _functions(before + new + after, first, first + new.count("\n"))
        assert places, f"nobody can see whether “{bug.name}” does anything: {new}"
        path.write_text(_watched(before + new + after, places, mark))
    return folder


def without_effect(bug: Bug, folder: Path) -> list[str]:
    """The changes of a bug planted in `folder` that did nothing, or only failed, in what ran since."""
    found = []
    for mark, (name, _, new) in _marked(bug).items():
        broken = folder / f"{mark}.broken"
        if broken.exists():
            found.append(f"{name}: {broken.read_text()} in {new}")
        elif not (folder / f"{mark}.called").exists():
            found.append(f"{name}: nothing called {new}")
    return found


def _marked(bug: Bug) -> dict[str, tuple[str, str, str]]:
    """A name for each change, and its file with the old text and the new."""
    changes = [(name, old, new) for name, pairs in bug.changes.items() for old, new in pairs]
    return {f"change-{number}": change for number, change in enumerate(changes)}


def _functions(text: str, first: int, last: int) -> list[ast.FunctionDef]:
    """The functions that run these lines: around them, within them, or using their constant."""
    tree = ast.parse(text)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    around = [each for each in functions if each.lineno <= first and last <= (each.end_lineno or 0)]
    if around:
        return [max(around, key=lambda each: each.lineno)]
    within = [each for each in functions if first <= each.lineno and (each.end_lineno or 0) <= last]
    if within:
        return within
    constants = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign) and node.lineno <= first and last <= (node.end_lineno or 0)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return [
        each
        for each in functions
        if any(isinstance(node, ast.Name) and node.id in constants for node in ast.walk(each))
    ]


def _watched(text: str, functions: list[ast.FunctionDef], mark: str) -> str:
    lines = text.splitlines(keepends=True)
    # From below, so that the lines above keep their numbers.
    for each in sorted(functions, key=lambda each: -each.lineno):
        decorator = f'@__import__("custsvc.witness").witness.saw({mark!r})'
        lines.insert(each.lineno - 1, " " * each.col_offset + decorator + "\n")
    return "".join(lines)
