"""What `custsvc serve` tells of itself: metrics, logs, and spans."""

from __future__ import annotations

import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ..sizes import on_one
from .conftest import ANN
from .serving import Serve, eventually

pytestmark = pytest.mark.slow


@on_one("postgres")
def test_any_process_answers_for_the_metrics_of_all(serve: Serve, key: str) -> None:
    serve.start("--workers", "2")
    for _ in range(20):
        assert serve.request("GET", "/api/customers/", key)[0] == 200

    def counted() -> float:
        text = serve.request("GET", "/metrics")[2].decode()
        return sum(
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if "duration_seconds_count" in line and 'route="/api/customers"' in line
        )

    eventually("all are counted", lambda: counted() == 20.0)
    assert [counted() for _ in range(6)] == [20.0] * 6
    serve.stop()


@on_one("postgres")
def test_logs_are_one_json_object_a_line_whatever_is_sent_and_hold_nothing_personal_and_no_key(
    serve: Serve, key: str
) -> None:
    """S18."""
    serve.start("--workers", "1", "--log-level", "DEBUG")
    evil = 'canary-7f3a\r\n{"level":"INFO"}\x1b[31m\u2028'
    quoted = urllib.parse.quote(evil)
    auth = f"X-Api-Key: {key}\r\n"
    serve.request("POST", "/api/customers/", key, {**ANN, "name": "canary-name", "phone": "555-canary"})
    serve.request("POST", "/api/customers/", key, {**ANN, "name": evil, "email": evil})
    serve.request("GET", f"/api/customers/?q={quoted}&email=canary@example.org", key)
    serve.request("GET", f"/api/{quoted}", key)
    serve.request("GET", "/api/customers/", "csk_canary_wrong")
    for header in ("X-Request-Id", "Idempotency-Key", "traceparent", "If-Match", "User-Agent", "Prefer"):
        line = f"{header}: canary\x1b[31m {evil[:11]}\r\n"
        serve.raw(
            f"GET /api/customers/1 HTTP/1.1\r\nHost: x\r\n{auth}{line}Connection: close\r\n\r\n".encode()
        )
    serve.stop()

    text = serve.log.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert sum(line.get("action") == "request" for line in lines) >= 5
    assert key not in text and key.split("_")[2] not in text
    personal = [line for line in text.splitlines() if "canary" in line]
    assert [line for line in personal if f"/api/{evil[:11]}" not in json.loads(line)["message"]] == []
    assert not any(char in text for char in "\x1b\r\u2028")


@on_one("postgres")
def test_spans_of_requests_are_sent_to_the_receiver_that_opentelemetrys_variables_name(
    serve: Serve, key: str
) -> None:
    received: list[bytes] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as receiver:
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        serve.environ |= {
            "CUSTSVC_TRACING": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.server_port}",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        serve.start("--workers", "1")
        assert serve.request("POST", "/api/customers/", key, ANN)[0] == 201
        sent = eventually("the span is there", lambda: b"".join(received) if received else None)
        serve.stop()
        receiver.shutdown()

    assert b"POST /api/customers" in sent and b"custsvc-serve" in sent
    assert b"/livez" not in sent and ANN["name"].encode() not in sent
