"""Doctor's findings about topics that others created."""

from __future__ import annotations

from typing import Any

import pytest

from custsvc.config import Settings
from custsvc.doctor.checks import _topic
from custsvc.kafka.topics import Topic

UPDATES = Settings().topic_updates
OURS = {
    "cleanup.policy": "compact",
    "min.insync.replicas": "2",
    "unclean.leader.election.enable": "false",
    "min.compaction.lag.ms": "604800000",
    "max.compaction.lag.ms": "1209600000",
}


def fixes(replication: int = 3, brokers: int = 3, **changed: str) -> list[str | None]:
    config = OURS | {name.replace("_", "."): value for name, value in changed.items()}
    topic = Topic(UPDATES, "every change", 12, replication, config)
    return [each.fix for each in _topic(Settings(), topic, brokers) if each.level != "ok"]


def test_a_topic_as_we_make_it_is_well() -> None:
    assert fixes() == []
    assert fixes(replication=1, brokers=1, min_insync_replicas="1") == []


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("unclean.leader.election.enable", "true", "unclean.leader.election.enable to false"),
        ("min.insync.replicas", "1", "min.insync.replicas to 2"),
        ("min.insync.replicas", "4", "min.insync.replicas to 2"),
        ("min.compaction.lag.ms", "0", "min.compaction.lag.ms to 604800000"),
        ("max.compaction.lag.ms", "9223372036854775807", "max.compaction.lag.ms to 1209600000"),
    ],
)
def test_doctor_reports_a_setting_that_breaks_a_promise_with_the_right_value(
    name: str, value: str, fix: str
) -> None:
    setting: dict[str, Any] = {name.replace(".", "_"): value}
    (found,) = fixes(**setting)

    assert fix in (found or "")
