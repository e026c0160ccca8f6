"""A first start warns of nothing that is harmless: what goes on for long is still told."""

from __future__ import annotations

import logging

import pytest

from custsvc.kafka.errors import librdkafka
from custsvc.ports.waiting import Waiting


def test_a_broker_that_has_just_started_is_no_warning_and_one_that_refuses_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failed = (
        "GETPID [custsvc#producer-2] [thrd:main]: Failed to acquire idempotence PID from broker b/1: Broker: "
    )

    librdkafka.warning(failed + "Coordinator load in progress: retrying")
    librdkafka.warning(failed + "Cluster authorization failed")

    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == [
        "Cluster authorization failed"
    ]


def test_a_short_wait_for_another_migration_is_no_warning_and_a_long_one_is(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("custsvc.ports.waiting.time.monotonic", lambda: now)
    wait = Waiting()
    caplog.set_level(logging.INFO)

    levels = []
    for _ in range(12):
        wait.pause(0, "another process migrates this database")
        levels += [(now - 1000.0, record.levelno) for record in caplog.records]
        caplog.clear()
        now += 2.0

    assert levels[:2] == [(0.0, logging.INFO), (6.0, logging.WARNING)]
    assert {level for _, level in levels[1:]} == {logging.WARNING}
