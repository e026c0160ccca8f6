"""The feed of events in a process: the parts that need no Kafka."""

from __future__ import annotations

import threading

from custsvc.config import Settings
from custsvc.kafka.feed import Feed


def test_a_thread_that_went_idle_and_was_replaced_collects_no_more() -> None:
    """Two would put every event into the ring twice."""
    feed = Feed(Settings(kafka="127.0.0.1:9"))
    feed._watchers = 1

    feed._thread = threading.current_thread()
    assert feed._is_wanted()

    feed._thread = threading.Thread()
    assert not feed._is_wanted()
