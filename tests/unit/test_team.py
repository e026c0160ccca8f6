"""The stop request of one relay among several in a process."""

from __future__ import annotations

import threading
import time

from custsvc.relay.team import _Linked
from custsvc.runtime.loop import Stop


def test_a_relay_that_leaves_alone_still_waits_for_its_batch() -> None:
    process = Stop()
    one, other = _Linked(process), _Linked(process)

    one.ask()

    assert (one.asked(), one.hurries()) == (True, False)
    assert not other.asked()
    assert one.wait(60)


def test_the_end_of_the_process_wakes_and_hurries_all() -> None:
    process = Stop()
    stop = _Linked(process)
    threading.Timer(0.05, process.ask).start()
    began = time.monotonic()

    assert stop.wait(60)

    assert time.monotonic() - began < 30
    assert (stop.asked(), stop.hurries()) == (True, True)
