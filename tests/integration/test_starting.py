"""Roles during a migration: probes are answered, signals work, no work begins."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from custsvc.errors import ExitCode
from custsvc.ports.store import Store
from tests.api.conftest import serve as serve  # a fixture
from tests.api.serving import DEADLINE, Serve, eventually
from tests.contract.migrating import another_migrates, as_of
from tests.sizes import on_one


def launch(serve: Serve, *arguments: str) -> None:
    """A role that may not listen yet."""
    with serve.log.open("ab") as log:
        serve.process = subprocess.Popen(
            serve.command(*arguments), env=serve.environ, cwd=serve.log.parent, stdout=log, stderr=log
        )


@pytest.fixture
def unready(
    serve: Serve, backend: str, opened: Callable[[str], Store], empty_database: str
) -> Iterator[Callable[[], None]]:
    """Serve's database has no schema, and another process migrates it until this is called."""
    serve.environ[f"CUSTSVC_{backend.upper()}_URL"] = empty_database
    with ExitStack() as stack:
        stack.enter_context(another_migrates(opened(empty_database)))
        yield stack.close
    serve.end()


def test_it_answers_probes_while_it_waits_for_the_schema_and_then_serves(
    serve: Serve, unready: Callable[[], None]
) -> None:
    serve.start("--auth", "off")

    for path in ("/readyz", "/api/customers/", "/ui/"):
        status, headers, body = serve.request("GET", path)
        assert (status, headers["retry-after"]) == (503, "2")
        assert "another process migrates this database" in json.loads(body)["detail"]
    assert serve.request("POST", "/api/customers/", body={"name": "Ada"})[0] == 503
    assert serve.request("GET", "/metrics")[0] == 200

    unready()
    serve.answers("GET", "/readyz")
    assert serve.request("POST", "/api/customers/", body={"name": "Ada"})[0] == 201
    assert serve.stop() == ExitCode.OK


@on_one("postgres")
def test_a_role_stops_on_request_while_it_waits_for_the_schema(
    serve: Serve, unready: Callable[[], None]
) -> None:
    serve.start("--auth", "off")

    assert serve.request("GET", "/readyz")[0] == 503
    assert serve.stop() == ExitCode.OK
    assert "Traceback" not in serve.log.read_text()


def test_it_ends_with_the_reason_when_the_database_turns_out_to_be_a_copy(
    serve: Serve, opened: Callable[[str], Store], backend: str, empty_database: str
) -> None:
    serve.environ[f"CUSTSVC_{backend.upper()}_URL"] = empty_database
    store = opened(empty_database)
    as_of(store, 5)
    store.facts.keep("role", "copy")
    with another_migrates(store):
        serve.start("--auth", "off")
    assert serve.process is not None

    assert serve.process.wait(DEADLINE) == ExitCode.CONFIGURATION
    assert "is a copy" in serve.log.read_text()


@pytest.mark.parametrize("role", [("relay",), ("replicate",), ("notify",)])
@on_one("postgres")
def test_a_worker_answers_probes_and_stops_while_it_waits_for_the_schema(
    serve: Serve, unready: Callable[[], None], servers: Any, backend: str, role: tuple[str, ...]
) -> None:
    serve.environ |= {
        "CUSTSVC_METRICS_PORT": str(serve.port),
        "CUSTSVC_KAFKA": servers.url("kafka"),
        "CUSTSVC_SMTP_URL": servers.url("mail"),
    }
    launch(serve, *role, "--backend", backend)

    serve.answers("GET", "/livez")
    eventually(
        "it waits for the migration",
        lambda: b"another process migrates" in serve.request("GET", "/readyz")[2],
    )
    assert serve.request("GET", "/readyz")[0] == 503
    assert serve.stop() == ExitCode.OK
    assert "Traceback" not in serve.log.read_text()
