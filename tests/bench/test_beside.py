"""The comparison with other pipelines: what it fetches is pinned, its report has its shape."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from custsvc.bench import proc
from custsvc.local import jars

ROOT = Path(__file__).parents[2]


def test_kafka_connect_is_of_the_kafka_that_we_run_and_every_jar_has_a_checksum(benchmark: Any) -> None:
    pinned = benchmark("connect").pinned()

    version = jars.KAFKA.rpartition(":")[2]
    assert ("connect", f"org.apache.kafka:connect-runtime:{version}") in [line[:2] for line in pinned]
    assert [line for line in pinned if not re.fullmatch("[0-9a-f]{64}", line[2])] == []
    assert {line[0] for line in pinned} == {"connect", "debezium-postgres", "debezium-jdbc", "mongodb"}


def test_a_row_has_the_median_of_the_rounds_their_spread_and_how_many_times_as_good_custsvc_is(
    benchmark: Any,
) -> None:
    meter, chart = benchmark("meter"), benchmark("chart")

    def results(*values: float) -> list[Any]:
        return [meter.Result(value, start_s=1.0, rss_mb=90, cpu_ms=20) for value in values]

    faster = meter.rows(
        "drain postgres, events/s", {"custsvc": results(300, 100, 200), "other": results(100)}
    )
    sooner = meter.rows("latency, p50, ms", {"custsvc": results(5), "other": results(20)})

    assert [(r["value"], r["least"], r["most"], r["rounds"]) for r in faster] == [
        (200, 100, 300, 3),
        (100, 100, 100, 1),
    ]
    assert [r["ratio"] for r in (*faster, *sooner)] == [1, 2, 1, 4]
    assert faster[0]["later"] is None
    assert meter.table([*faster, *sooner]).row_count == 4
    assert "custsvc" in chart.bars("title", meter.groups([*faster, *sooner]), "unit")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")
def test_the_processor_time_of_a_process_counts_children_that_ended() -> None:
    before = proc.processor_s(os.getpid())
    assert before is not None

    subprocess.run([sys.executable, "-c", "sum(range(5_000_000))"], check=True)

    assert (proc.processor_s(os.getpid()) or 0) - before > 0.02
    assert (proc.peak_mb(os.getpid()) or 0) > 10
