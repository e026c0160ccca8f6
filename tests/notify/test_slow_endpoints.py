"""One good receiver among many that are slow: it waits for none of them, whatever their number."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from custsvc.config import Settings
from custsvc.kafka.publisher import Publisher
from custsvc.notify.endpoints import channel, dispatch
from custsvc.ports.endpoints import Endpoint
from custsvc.ports.store import Store
from tests.waiting import until

from .role import created, notify, running
from .scripted import DROP, Action, ScriptedHttp, http

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BAD = 12
CONNECTIONS = 4
BACKLOG = 30
# Seconds that a bad receiver takes for a call, and from which on a call counts as slow here.
HELD, SLOW = 1.0, 0.3

KINDS: dict[str, list[Action]] = {"answers late": [HELD, *http()], "breaks off late": [HELD, DROP]}


@pytest.fixture
def receiver() -> Iterator[Callable[..., ScriptedHttp]]:
    with ExitStack() as stack:
        yield lambda script=http: stack.enter_context(closing(ScriptedHttp(lambda _: script())))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["postgres"])
def test_a_good_receiver_waits_for_none_of_many_slow_ones(
    kind: str,
    settings: Settings,
    store: Store,
    publisher: Publisher,
    receiver: Callable[..., ScriptedHttp],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(channel, "SLOW", SLOW)
    monkeypatch.setattr(dispatch, "_PATIENCE", SLOW)
    rules = tmp_path / "none.toml"
    rules.write_text("")
    mine = settings.replace(
        webhook_allow="127.0.0.1", notify_rules=str(rules), webhook_connections=CONNECTIONS
    )
    bad = [receiver(lambda: KINDS[kind]) for _ in range(BAD)]
    good = receiver()
    for name, url in [("good", good.url), *((f"a{number}", each.url) for number, each in enumerate(bad))]:
        store.endpoints.add(Endpoint(id=name, created_by="ann", url=url, ops=("created",)), SECRET)

    with running(notify(mine)):
        publisher.send(mine.topic_updates, [created(number) for number in range(1, BACKLOG + 1)])
        until("each was called", lambda: all(len(each.calls) >= 2 for each in bad))
        until("the good one has all", lambda: len(good.calls) == BACKLOG)
        began = time.monotonic()
        for number in range(BACKLOG + 1, BACKLOG + 6):
            publisher.send(mine.topic_updates, [created(number)])
            until("it arrived", lambda number=number: len(good.calls) == number, every=0.01)

    # What waits for the slow ones takes them much longer. 0.6 s on a quiet machine.
    assert time.monotonic() - began < BAD * BACKLOG * HELD / CONNECTIONS / 3
