"""A role dies at each of its crash points and is started again: nothing is lost, out of order or doubled."""

from __future__ import annotations

import pytest

from custsvc.kafka.publisher import Publisher, Record
from custsvc.local import ports
from custsvc.relay.relay import BATCH
from custsvc.transfer.seed import seed_customers
from tests.chaos import checker
from tests.chaos.conftest import Line
from tests.chaos.roles import NO_ANSWER, request, serves
from tests.sizes import on_one, sizes
from tests.waiting import until

DIED = 137


@sizes("times", 1, 20)
@pytest.mark.parametrize("point", ["relay.read", "relay.produced", "relay.acked", "relay.saved"])
@on_one("postgres")
def test_a_relay_that_dies_loses_nothing_and_repeats_at_most_its_batch(
    line: Line, point: str, times: int
) -> None:
    """O5."""
    ids = line.crowd(20, 3)
    waited = 0  # together, in each batch that was cut off

    relay = line.role("relay")
    for _ in range(times):
        waited += line.source.outbox.depth().waiting
        assert relay.start(crash_at=point).wait() == DIED
        line.change(ids[0], 3)
    line.relay()
    line.settle_topic()

    found = line.judge(copied=False)
    assert found.problems == []
    assert found.repeats <= waited
    assert (found.repeats > 0) == (point in ("relay.produced", "relay.acked")) or point == "relay.produced"


@pytest.mark.parametrize("at", ["relay.overlapped", "relay.overlapped:2", "relay.produced:2", "relay.acked"])
@on_one("postgres")
def test_a_relay_that_dies_with_two_batches_on_their_way_sends_both_again_in_order(
    line: Line, at: str
) -> None:
    """O5: whichever of them Kafka has, and though the later one may be there alone."""
    # Each batch has a change of each customer, so a batch that counted too early would leave a gap.
    ids = line.crowd(200, 2)
    seed_customers(line.source.customers, 3 * BATCH, 1)
    for each in ids:
        line.change(each)

    assert line.role("relay").start(crash_at=at).wait() == DIED
    line.relay()
    line.settle_topic()

    found = line.judge(copied=False)
    assert found.problems == []
    assert found.repeats <= 3 * BATCH


@pytest.mark.parametrize("backend", ["mongo"])
def test_a_relay_that_dies_while_it_marks_a_batch_sends_the_rest_again(line: Line) -> None:
    """O5: within the saving of the cursor, where that is more than one step."""
    seed_customers(line.source.customers, 2500, 1)

    assert line.role("relay").start(crash_at="relay.marking").wait() == DIED
    assert 0 < line.source.outbox.depth().waiting < 2500
    line.relay()
    line.settle_topic()

    found = line.judge(copied=False)
    assert found.problems == []
    assert 0 < found.repeats < 2500


@pytest.mark.parametrize("backend", ["mongo"])
def test_a_relay_that_dies_while_it_moves_events_to_the_history_leaves_one_of_each(line: Line) -> None:
    """O5: an event that is in both places is sent again and is one event of the history."""
    ids = line.crowd(20, 3)

    assert line.role("relay").start(crash_at="relay.moving").wait() == DIED
    assert line.source.outbox.depth().waiting == 60
    line.change(ids[0], 3)
    line.relay()
    line.settle_topic()

    found = line.judge(copied=False)
    assert found.problems == []
    assert found.repeats >= 60
    assert len(line.source.customers.history(ids[0], limit=100)) == 6


COPY_POINTS = [
    "replicate.taken",
    "replicate.dead_lettered",
    "replicate.writing",
    "replicate.applied",
    "consume.committed",
]


@pytest.mark.parametrize("point", COPY_POINTS)
@on_one("mongo")
def test_a_copy_that_dies_goes_on_where_it_was_and_dead_letters_bad_records(line: Line, point: str) -> None:
    """R4: what was applied is never behind the position, nor the position ahead of what was applied."""
    ids = line.crowd(20, 2)
    line.relay()
    line.settle_topic()
    with Publisher(line.settings) as publisher:
        publisher.send(line.settings.topic_updates, [Record(b"1", b"{not json", [])])

    assert line.role("replicate").start(crash_at=point).wait() == DIED
    line.change(ids[0], 3)
    line.replicate()
    line.settle()

    assert line.judge().problems == []
    dead_letters = checker.read_records(line.settings.kafka, line.settings.topic_dead)
    assert {value for _, _, value in dead_letters} == {b"{not json"}
    # Read apart from the good ones, it may have been sent before the death that comes with those.
    assert len(dead_letters) in ((2,) if point == "replicate.dead_lettered" else (1, 2))


@on_one("postgres")
def test_a_rebuild_that_dies_leaves_a_whole_copy_that_goes_on_and_is_given_again(line: Line) -> None:
    """R10, R11: wherever it dies, the copy serves, takes changes, and the same command ends the work."""
    ids = line.crowd(20, 2)
    line.source.claim_role("source")
    line.relay()
    line.replicate()
    line.settle()
    points = ["rebuild.filling", "rebuild.proven", "rebuild.swapping"]
    if line.settings.other_backend == "mongo":
        points.append("rebuild.renamed")

    for point in points:
        assert line.role("replicate", "--rebuild").start(crash_at=point).wait() == DIED
        assert len(line.copy.replica.rows(ids)) == len(ids)
        line.change(ids[0])
    line.settle()
    assert line.judge().problems == []

    last = line.role("replicate", "--rebuild").start()
    assert last.wait() == 0, last.said()
    line.change(ids[0])
    line.settle()
    assert line.judge().problems == []


@pytest.mark.parametrize("point", ["save.halfway", "save.stored"])
def test_a_write_that_dies_is_whole_or_absent(line: Line, point: str) -> None:
    """A10: the customer and its event are there both or neither."""
    first = line.create("Ada")
    if point == "save.halfway" and line.settings.backend == "postgres":
        pytest.skip("on PostgreSQL the customer and its event are one statement")

    port = ports.choose()
    serve = line.role("serve", "--auth", "off", "--port", str(port), WORKERS="1").start(crash_at=point)
    until("the API answers", lambda: serves(port))
    with pytest.raises(NO_ANSWER):
        # With a key it is a transaction on MongoDB too; without, one write of one document.
        key = {"Idempotency-Key": "once"} if point == "save.halfway" else {}
        request(port, "PATCH", f"/api/customers/{first}", {"name": "Grace"}, headers=key)
    serve.kill()
    expected = 2 if point == "save.stored" else 1
    stored = line.source.customers.get(first)
    assert stored is not None
    assert stored.version == expected
    assert line.change(first) == expected + 1
    line.relay()
    line.settle_topic()

    found = line.judge(copied=False)
    assert found.problems == []
    assert found.records - found.repeats == expected + 1
