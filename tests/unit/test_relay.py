"""The size of the batches that a relay reads from the outbox."""

from __future__ import annotations

import pytest

from custsvc.domain.events import CustomerEvent
from custsvc.relay.relay import BATCH, batch_after

MB = 1_000_000


def of_size(size: int) -> CustomerEvent:
    return CustomerEvent("id", 1, 1, "created", b"x" * size)


@pytest.mark.parametrize("size", [100, 5000, 50_000, MB])
def test_a_batch_is_bounded_by_events_and_by_bytes(size: int) -> None:
    most = batch_after([of_size(size)] * 3)

    assert 1 <= most <= BATCH
    assert most * size <= 8 * MB


def test_small_events_come_in_whole_batches_and_one_big_one_among_many_changes_little() -> None:
    assert batch_after([of_size(600)] * 100) == BATCH
    assert batch_after([of_size(600)] * 5000 + [of_size(MB)]) == BATCH


def test_an_event_above_all_bounds_is_sent_alone() -> None:
    assert batch_after([of_size(20 * MB)]) == 1
