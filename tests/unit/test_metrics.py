"""A worker's own port: whether it lives, whether it can work, and what it has counted."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from custsvc import metrics, metrics_server
from custsvc.config import Settings
from custsvc.errors import TemporaryError
from custsvc.local import ports
from custsvc.metrics_server import serving

Get = Callable[[str], tuple[int, str]]


@pytest.fixture
def checks() -> dict[str, Callable[[], Any]]:
    return {"postgres": lambda: None}


@pytest.fixture
def get(checks: dict[str, Callable[[], Any]], monkeypatch: pytest.MonkeyPatch) -> Iterator[Get]:
    # A worker's process ends with its loops. This one goes on after the tests that ran loops in it.
    monkeypatch.setattr(metrics, "_beats", {})
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


def test_what_was_counted_is_shown(get: Get) -> None:
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
