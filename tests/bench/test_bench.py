"""The benchmarks run, at a size too small to measure speed, and leave nothing behind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from custsvc.bench import http, pipeline, report
from custsvc.bench.roles import environment
from custsvc.config import Settings
from custsvc.errors import CustsvcError
from custsvc.kafka import client as kafka
from tests.waiting import until

if TYPE_CHECKING:
    from ..conftest import Servers


@pytest.fixture(scope="module")
def settings(servers: Servers) -> Settings:
    return Settings(
        postgres_url=servers.url("postgres"),
        mongo_url=servers.url("mongo"),
        kafka=servers.url("kafka"),
        partitions=3,
    )


def scratch_databases(settings: Settings) -> set[str]:
    import psycopg2
    from pymongo import MongoClient

    with MongoClient[dict[str, Any]](settings.mongo_url) as client:
        found = set(client.list_database_names())
    connection = psycopg2.connect(settings.postgres_url)
    with connection.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database")
        found |= {name for (name,) in cursor}
    connection.close()
    return {name for name in found if name.startswith("custsvc_bench_")}


def scratch_topics(settings: Settings) -> set[str]:
    names = kafka.admin(settings).list_topics(timeout=60).topics
    return {name for name in names if name.startswith("custsvc-bench-")}


def test_the_pipeline_is_measured_beside_its_bare_loops_and_nothing_is_left(
    settings: Settings, tmp_path: Path
) -> None:
    save = tmp_path / "figures.json"
    before = scratch_databases(settings), scratch_topics(settings)

    done = subprocess.run(
        [
            *(sys.executable, "-m", "custsvc", "bench", "pipeline", "--events", "60", "--seconds", "0.5"),
            *("--rate", "20", "-o", "json", "--save", str(save)),
        ],
        env=environment(settings),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    rows = {row["measure"]: row for row in json.loads(done.stdout)}
    for backend, other in (("postgres", "mongo"), ("mongo", "postgres")):
        copies = [f"apply into {other}, {kind}" for kind in ("distinct", "distinct, listed", "hot")]
        for name in (f"seed {backend}", f"relay from {backend}", *copies):
            assert rows[name]["value"] > 0
            assert rows[name]["bare"] > 0
        assert all(rows[name]["cpu_ms"] >= 0 for name in (f"relay from {backend}", *copies))
        assert [rows[name]["detail"] for name in copies] == ["60 customers"] * 3
        assert 0 < rows[f"{backend} to topic p50"]["value"] <= rows[f"{backend} to topic p99"]["value"]
        assert rows[f"{backend} to copy p99"]["rss_mb"] > 10
    saved = json.loads(save.read_text())
    assert saved["measures"] == list(rows.values())
    assert saved["machine"]["cores"] >= 1
    # Another test may measure at the same time, and its own are gone with it.
    until("no database is left", lambda: scratch_databases(settings) <= before[0])
    until("no topic is left", lambda: scratch_topics(settings) <= before[1])


@pytest.mark.long
def test_no_role_takes_more_than_110_mb_for_a_backlog(settings: Settings) -> None:
    found = list(pipeline.run(settings.replace(partitions=12), pipeline.Sizes(200_000, 5)))

    peaks = {each.measure: each.rss_mb for each in found if each.rss_mb is not None}
    assert len(peaks) >= 6
    assert {name: mb for name, mb in peaks.items() if mb > 110} == {}


def test_a_hot_topic_holds_as_many_events_as_asked_in_order_of_their_versions() -> None:
    changes = list(pipeline._new_customers(3))

    later = [pipeline._changed(pipeline._changed(each)) for each in changes]

    assert [(each.after.id, each.after.version) for each in later] == [(1, 3), (2, 3), (3, 3)]
    assert all(each.before is not None and each.before.version == 2 for each in later)


@pytest.mark.parametrize(("share", "expected"), [(0.5, 51), (0.99, 100), (1.0, 100)])
def test_percentiles(share: float, expected: float) -> None:
    assert report.percentile([float(n) for n in range(1, 101)], share) == expected


@contextmanager
def api_that_answers(status: int) -> Iterator[http.Target]:
    """An API of one answer."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield http.Target("it", server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_answers_that_are_errors_are_no_speed() -> None:
    with api_that_answers(200) as target:
        http.wait_for(target)
        assert http.load(target, "get", customers=5, seconds=1).rate > 0
    with api_that_answers(503) as target, pytest.raises(CustsvcError, match="with errors"):
        http.load(target, "get", customers=5, seconds=1)
