"""A worker's own port: its liveness, its readiness, and its counters."""

from __future__ import annotations

import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from custsvc.config import Settings
from custsvc.errors import TemporaryError
from custsvc.kafka.lag import Lags
from custsvc.local import ports
from custsvc.runtime import metrics, metrics_server
from custsvc.runtime.metrics_server import serving

Get = Callable[[str], tuple[int, str]]


@pytest.fixture
def checks() -> dict[str, Callable[[], Any]]:
    return {"postgres": lambda: None}


@pytest.fixture
def get(checks: dict[str, Callable[[], Any]]) -> Iterator[Get]:
    gauges = {"custsvc_outbox_waiting": 3.0, "custsvc_notifications{state=sent}": 2.0}
    with serving(Settings(metrics_port=ports.choose()), "relay", checks, lambda: gauges) as port:

        def get(path: str) -> tuple[int, str]:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as exc:
                return exc.code, exc.read().decode()

        yield get


def samples(text: str) -> dict[str, float]:
    return {
        sample.name + "".join(f"{{{k}={v}}}" for k, v in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_show_counted_events(get: Get) -> None:
    before = samples(get("/metrics")[1]).get("custsvc_events_total{loop=mine}{result=published}", 0)
    metrics.beat("mine")
    metrics.count("mine", "published", 5)
    metrics.lag("mine", 1.5)

    shown = samples(get("/metrics")[1])

    assert shown["custsvc_events_total{loop=mine}{result=published}"] == before + 5
    assert shown["custsvc_loop_beats_total{loop=mine}"] >= 1
    assert shown["custsvc_lag_seconds{loop=mine}"] == 1.5
    assert shown["custsvc_loop_silence_seconds{loop=mine}"] < 60
    assert shown["custsvc_outbox_waiting"] == 3
    assert shown["custsvc_notifications{state=sent}"] == 2
    assert any(name.startswith("custsvc_info{role=relay}") for name in shown)


def test_a_loop_that_hangs_ends_liveness_and_an_outage_does_not(
    get: Get, checks: dict[str, Callable[[], Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics.beat("mine")

    def down() -> None:
        raise TemporaryError(dependency="postgres")

    assert (get("/livez")[0], get("/readyz")[0]) == (200, 200)
    checks["postgres"] = down
    assert (get("/livez")[0], get("/readyz")[0]) == (200, 503)
    assert "postgres" in get("/readyz")[1]
    assert get("/metrics")[0] == 200

    monkeypatch.setattr(metrics_server, "SILENCE", -1.0)
    status, text = get("/livez/")
    assert status == 503
    assert "mine" in text
    assert get("/nothing")[0] == 404


def test_without_a_port_nothing_listens_and_a_taken_one_is_no_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with serving(Settings(), "relay", {}) as port:
        assert port == 0
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with serving(Settings(metrics_port=taken.getsockname()[1]), "relay", {}) as port:
            assert port == 0
    assert "cannot be listened on" in caplog.text


def test_it_listens_on_loopback_only() -> None:
    assert Settings().metrics_host == "127.0.0.1"


def test_every_metric_is_in_the_docs_and_those_in_the_docs_are_there() -> None:
    root = Path(__file__).parents[2]
    paths = ["runtime/metrics_server.py", "serve/measure.py"]
    paths += [f"{room}/gauges.py" for room in ("relay", "copies", "notify")]
    code = "".join((root / "custsvc" / path).read_text() for path in paths)
    called = set(re.findall(r"`(custsvc_[a-z_]+)`", (root / "docs" / "metrics.md").read_text()))

    # The library puts the unit behind a counter, and `info` behind what is no number.
    named = {name.removesuffix("_total").removesuffix("_info") for name in called}
    made = (
        r'(?:Metric[A-Za-z]*|Histogram|Counter|Gauge|family)\(\s*f?"(custsvc[a-z_]*)'
        r'|f?"(custsvc_[a-z_]+)(?:\{\{[^"]*)?":'
    )
    shown = {one or other for one, other in re.findall(made, code)}
    shown |= set(re.findall(r'found\[f"(custsvc_[a-z_]+)', code))

    assert named == shown


class Message:
    """A record as far as its place and time go."""

    def __init__(self, part: int, offset: int, age: float) -> None:
        self._place, self._time = (part, offset), time.time() - age

    def topic(self) -> str:
        return "t"

    def partition(self) -> int:
        return self._place[0]

    def offset(self) -> int:
        return self._place[1]

    def timestamp(self) -> tuple[int, int]:
        return 1, int(self._time * 1000)


@given(st.data())
def test_the_lag_is_what_is_behind_the_last_that_is_done_and_as_old_as_the_oldest_in_hand(
    data: st.DataObject,
) -> None:
    """Batches are taken and done in order, up to two at once; ends are learned now and then, or not."""
    lags = Lags("t")
    lags.assigned({("t", part): 0 for part in range(3)})
    done, read, end = ([0] * 3 for _ in range(3))
    last: dict[int, float] = {}
    hand: list[tuple[dict[tuple[str, int], int], dict[int, float]]] = []

    for _ in range(data.draw(st.integers(1, 12))):
        step = data.draw(st.sampled_from(["take", "do", "learn"]))
        if step == "take" and len(hand) < 2:
            counts = [data.draw(st.integers(0, 3)) for _ in range(3)]
            ages = {part: float(data.draw(st.integers(10, 9000))) for part in range(3) if counts[part]}
            batch: list[Any] = [Message(p, read[p] + n, ages[p] - n) for p in ages for n in range(counts[p])]
            read = [at + count for at, count in zip(read, counts, strict=True)]
            offsets = {("t", part): read[part] for part in ages}
            lags.taken(batch, offsets)
            end = [max(pair) for pair in zip(end, read, strict=True)]
            hand.append((offsets, ages))
        elif step == "do" and hand:
            offsets, ages = hand.pop(0)
            lags.dealt_with(offsets)
            last |= ages
            for (_, part), offset in offsets.items():
                done[part] = offset
        elif step == "learn":
            end = [at + data.draw(st.integers(0, 5)) for at in end]
            lags._learn(lambda _topic, parts, now=list(end): {part: (0, now[part]) for part in parts})

    behind = lags.behind().partitions
    assert {part: each.records for (_, part), each in behind.items()} == {
        part: end[part] - done[part] for part in range(3)
    }
    for part in range(3):
        oldest = next((ages[part] for _, ages in hand if part in ages), None)
        if oldest is not None:
            assert oldest <= behind["t", part].seconds < oldest + 60
        else:
            assert behind["t", part].seconds < last.get(part, 0) + 60
            assert end[part] > done[part] or behind["t", part].seconds == 0


def test_the_age_of_the_lag_grows_while_kafka_does_not_answer() -> None:
    lags = Lags("t")
    lags.assigned({("t", 0): 5})

    def away(_topic: str, _parts: Sequence[int]) -> dict[int, tuple[int, int]]:
        raise TemporaryError(dependency="kafka")

    lags._learn(lambda _topic, _parts: {0: (0, 9)})
    with lags.asking(away):
        first = lags.behind()
        time.sleep(0.05)
        later = lags.behind()

    assert first.partitions["t", 0].records == later.partitions["t", 0].records == 4
    assert later.partitions["t", 0].seconds > first.partitions["t", 0].seconds
    assert later.known > first.known
    lags.lost([("t", 0)])
    assert lags.behind().partitions == {}
