"""The threads that write long answers."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from custsvc.http.streams import Streams
from custsvc.serve.carrier import Carrier


class Proto:
    """The server's side of a request."""

    def __init__(self) -> None:
        self.statuses: list[int] = []

    def response_bytes(self, status: int, _headers: Any, _body: bytes) -> None:
        self.statuses.append(status)

    def response_iter(self, status: int, _headers: Any, body: Any) -> None:
        self.statuses.append(status)
        body.close()


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_a_long_answer_without_a_thread_is_refused_and_gives_its_place_back(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def cannot_start(_: threading.Thread) -> None:
        raise error

    proto, streams = Proto(), Streams(1)
    with monkeypatch.context() as patch, pytest.raises(type(error)):
        patch.setattr(threading.Thread, "start", cannot_start)
        streams.carried(lambda _: [b"part"], lambda: True, "me")

    for _ in range(3):
        parts = streams.carried(lambda _: [b"part"], lambda: True, "me")
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", cannot_start)
            Carrier(proto).response_iter(200, [], parts)
        assert streams.open == 0

    assert proto.statuses == [503] * 3
