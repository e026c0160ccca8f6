"""Thirteen bugs that systems like this one really had, each as a change of one source file, to be planted.

They are planted into a copy of the package in a temporary folder, never here, to see that a scenario catches
each. Where the text that a bug changes is gone, the code has changed: adapt the bug, do not drop it.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Bug(NamedTuple):
    """What goes wrong, where, how, which scenario catches it, and by which of its tests."""

    name: str
    scenario: str
    test: str
    # Per file the texts to be replaced; an empty text stands for the end of the file.
    changes: dict[str, list[tuple[str, str]]]


_OUTBOX = "stores/postgres/outbox.py"
_REPLICA = "stores/postgres/replica.py"
_RELAY = "workers/relay.py"
_COPY = "workers/replicate.py"
_CONSUME = "workers/consume.py"
_KAFKA = "kafka.py"

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
    "chaos/test_crashes.py::test_a_copy_that_dies_goes_on_where_it_was_and_buries_what_is_bad[mongo-{}]"
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
        f"SELECT {_COLUMNS} FROM customer_event e WHERE e.seq > $1 ORDER BY e.seq LIMIT $2",
    )
    rows = self._run(serial, (self._cursor.last_seq, limit))
    return self._batch(_BEGINNING, _BEGINNING, rows, finished=False) if rows else Batch()


PostgresOutbox.read = _read
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
        f"SELECT {_COLUMNS} FROM customer_event e "
        "WHERE e.txid < pg_snapshot_xmin(pg_current_snapshot()) AND $1 > 0 ORDER BY e.txid",
    )
    rows = [row for row in self._run(xmin, (limit,)) if row[0] not in seen][:limit]
    seen.update(row[0] for row in rows)
    return self._batch(_BEGINNING, _BEGINNING, rows, finished=False) if rows else Batch()


PostgresOutbox.read = _read
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
        _COPY_DIES.format("replicate.buried"),
        {
            _COPY: [
                (
                    'crash.point("replicate.buried")\n',
                    "self._replica.apply([], self._topic, positions)\n"
                    '        crash.point("replicate.buried")\n',
                )
            ],
            # An empty batch is none.
            "stores/mongo/replica.py": [
                ('crash.point("replicate.writing")\n', "pass\n"),
            ],
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
_whole = PostgresReplica.apply


def _apply(self, events, topic, positions):
    applied = _whole(self, events, topic, positions)
    with self._connections.cursor() as cursor:
        cursor.execute("DELETE FROM customer WHERE deleted")
    return applied


PostgresReplica.apply = _apply
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
        "test_a_relay_whose_producer_meets_a_fatal_error_makes_it_anew_and_reads_the_batch_again",
        {_KAFKA: [("        errors.append(error)", "        pass")]},
    ),
    Bug(
        "a mail is marked as sent before it is sent",
        "N1",
        "notify/test_run.py::test_a_process_killed_before_the_hand_over_costs_nothing[postgres]",
        {
            "notify/sender.py": [
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
                    "self._handle(messages)\n",
                    "client.commit(offsets=[TopicPartition(*w, o) for w, o"
                    " in next_offsets(messages).items()], asynchronous=False); self._handle(messages)\n",
                )
            ],
            _COPY: [("positions=replica.begin", "positions=None")],
        },
    ),
    Bug(
        "batches are not sorted",
        "R8",
        "contract/test_replica.py::test_several_that_apply_the_same_customers_at_once_all_succeed[postgres-2]",
        {_REPLICA: [("sorted(newest)", "list(newest)"), (" FROM incoming ORDER BY id", " FROM incoming")]},
    ),
    Bug(
        "records have no key",
        "O5",
        _RELAY_DIES.format("relay.saved"),
        {_RELAY: [("return Record(key,", "return Record(None,")]},
    ),
]


def plant(bug: Bug, folder: Path) -> Path:
    """A checkout in `folder` whose package has this bug."""
    shutil.copytree(ROOT / "custsvc", folder / "custsvc", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "tests").symlink_to(ROOT / "tests")
    for name, changes in bug.changes.items():
        path = folder / "custsvc" / name
        text = path.read_text()
        for old, new in changes:
            assert text.count(old) == 1 or not old, f"{name} has no (one) place to plant “{bug.name}”: {old}"
            text = text.replace(old, new) if old else text + "\n" + new
        path.write_text(text)
    return folder
