"""`custsvc health` reports a role on this machine in one line and by its exit code."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from custsvc.config import Settings
from custsvc.errors import ConfigurationError, TemporaryError
from custsvc.local import ports
from custsvc.runtime import metrics
from custsvc.runtime.health import examine, is_well
from custsvc.runtime.metrics_server import SILENCE, serving


def down() -> None:
    raise TemporaryError("it is away", dependency="mongo")


def told(settings: Settings, role: str | None = None) -> tuple[bool, str]:
    found = examine(settings, role, timeout=10)
    return is_well(found), "; ".join(map(str, found))


@contextmanager
def answering(*answers: tuple[int, bytes]) -> Iterator[int]:
    """A server that gives these answers, one after the other, the last one for ever; gives its port."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.parametrize("role", ["relay", "replicate", "notify"])
def test_a_worker_that_can_work_is_well(role: str) -> None:
    with serving(Settings(metrics_port=ports.choose()), role, {"postgres": lambda: None}) as port:
        assert told(Settings(metrics_port=port), role) == (True, f"{role} at 127.0.0.1:{port}: ok")


def test_a_worker_whose_database_is_away_is_not_well() -> None:
    with serving(Settings(metrics_port=ports.choose()), "replicate", {"mongo": down}) as port:
        well, line = told(Settings(metrics_port=port), "replicate")

    assert (well, line) == (False, f"replicate at 127.0.0.1:{port}: down: mongo")


def test_a_worker_whose_loop_hangs_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("custsvc.runtime.metrics_server.SILENCE", -1.0)
    assert SILENCE > 0
    metrics.beat("hangs")
    with serving(Settings(metrics_port=ports.choose()), "relay", {}) as port:
        well, line = told(Settings(metrics_port=port), "relay")

    assert not well
    assert "silent: " in line


def test_another_role_at_the_port_is_not_the_one_that_was_asked_for() -> None:
    with serving(Settings(metrics_port=ports.choose()), "relay", {}) as port:
        assert told(Settings(metrics_port=port), "notify") == (
            False,
            f"notify at 127.0.0.1:{port}: relay answers there",
        )


def test_without_a_name_whoever_answers_is_asked() -> None:
    nobody = ports.choose()
    with serving(Settings(metrics_port=ports.choose()), "notify", {}) as port:
        assert told(Settings(metrics_port=port, http_port=nobody)) == (
            True,
            f"notify at 127.0.0.1:{port}: ok",
        )


def test_where_nobody_answers_nobody_is_well() -> None:
    http, worker = ports.choose(), ports.choose()

    well, line = told(Settings(http_port=http, metrics_port=worker))

    assert not well
    assert line.count("does not answer (Connection refused)") == 2


def test_a_worker_without_a_port_is_an_error_with_the_fix() -> None:
    with pytest.raises(ConfigurationError) as caught:
        examine(Settings(), "relay")

    assert "CUSTSVC_METRICS_PORT" in str(caught.value.fix)


OK = b'{"status": "ok"}'
STRANGE = [
    [(404, b"not found")],
    [(200, b"")],
    [(200, b"hello")],
    [(200, b"[]")],
    [(200, b"null")],
    [(200, b'{"status": 7}')],
    [(200, b'{"status": "no"}')],
    [(200, b"\xff\xfe")],
    [(200, b"[" * 60_000)],
    [(200, OK), (503, b'{"detail": "the\\ndatabase\\tis away"}')],
    [(200, OK), (503, b"{")],
    [(200, OK), (200, b"{}")],
    [(500, OK)],
    [(302, OK)],
]


@pytest.mark.parametrize("answers", STRANGE, ids=lambda answers: repr(answers[-1])[:40])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_any_other_answer_is_unwell_in_one_line(answers: list[tuple[int, bytes]], host: str) -> None:
    with answering(*answers) as port:
        well, line = told(Settings(http_host=host, http_port=port), "serve")

    assert not well
    assert len(line.splitlines()) == 1


def test_a_port_that_takes_connections_and_says_nothing_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (found,) = examine(Settings(http_port=silent.getsockname()[1]), "serve", timeout=0.2)

    assert found.problem == "does not answer (timed out)"


@pytest.mark.parametrize(("status", "code"), [(OK, 0), (b'{"status": "no"}', 7)])
def test_the_command_ends_with_0_or_7_and_one_line(status: bytes, code: int) -> None:
    with answering((200, status)) as port:
        done = subprocess.run(
            [sys.executable, "-m", "custsvc", "health", "serve", "--port", str(port)],
            env={"PATH": "/usr/bin", "http_proxy": "http://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    assert done.returncode == code, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert json.loads(status)["status"] in done.stdout
    assert done.stderr == ""
