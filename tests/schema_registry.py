"""A schema registry on loopback, for tests: the part of Confluent's REST API that we use, in this process.

It keeps its schemas while it is stopped, so an outage can end. It does not judge compatibility by itself: a
test says which subjects refuse. The long test runs the same against Apicurio Registry (`real_registry`).
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class SchemaRegistry:
    """Serves until `close`. `user` ("name:password") and `tls` are asked of clients where they are given."""

    def __init__(self, *, user: str = "", tls: ssl.SSLContext | None = None) -> None:
        self.user = user
        self.schemas: dict[int, dict[str, str]] = {}
        self.subjects: dict[str, list[int]] = {}
        self.refusing: set[str] = set()
        """Subjects that take no other schema."""
        self.rules: dict[str, str] = {}
        """The compatibility of each subject that has one of its own."""
        self.rule = "BACKWARD"
        """The compatibility of all other subjects."""
        self.hidden = False
        """Whether nobody may see these rules."""
        self.asked: Counter[str] = Counter()
        """How often each method and path was asked for."""
        self.failing = False
        """Whether every request gets 500."""
        self.port = 0
        self._tls = tls
        self._scheme = "https" if tls else "http"
        self.start()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Serve, again at the same port."""
        registry = self

        class Handler(_Handler):
            of = registry

        self._server = _Server(("127.0.0.1", self.port), Handler)
        if self._tls:
            self._server.socket = self._tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop serving; what it holds stays."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def put(self, subject: str, text: str, kind: str = "AVRO") -> int:
        """Register a schema behind everybody's back; return its id."""
        known = next(
            (n for n, s in self.schemas.items() if (s["schema"], s["schemaType"]) == (text, kind)), 0
        )
        number = known or len(self.schemas) + 1
        self.schemas[number] = {"schema": text, "schemaType": kind}
        versions = self.subjects.setdefault(subject, [])
        if number not in versions:
            versions.append(number)
        return number

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # A client that breaks off, as one that does not like our certificate.


class _Handler(BaseHTTPRequestHandler):
    of: SchemaRegistry
    timeout = 10

    def do_GET(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    do_PUT = do_POST  # noqa: N815 - the name is http.server's

    def _answer(self, body: Any) -> None:
        self.of.asked[f"{self.command} {self.path.partition('?')[0]}"] += 1
        status, answer = self._checked(body)
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _checked(self, body: Any) -> tuple[int, Any]:
        if self.of.failing:
            return 500, {"error_code": 50001, "message": "the store is away"}
        wanted = "Basic " + base64.b64encode(self.of.user.encode()).decode()
        if self.of.user and self.headers.get("Authorization") != wanted:
            return 401, {"error_code": 401, "message": "Unauthorized"}
        return self._found(self.path.partition("?")[0].strip("/").split("/"), body)

    def _found(self, path: list[str], body: Any) -> tuple[int, Any]:
        match path:
            case ["schemas", "ids", number]:
                found = self.of.schemas.get(int(number))
                return (200, found) if found else (404, {"error_code": 40403, "message": "Schema not found"})
            case ["subjects", subject, "versions"]:
                if subject in self.of.refusing and self._lookup(subject, body) is None:
                    return 409, {"error_code": 409, "message": "Schema being registered is incompatible"}
                return 200, {"id": self.of.put(subject, body["schema"], body.get("schemaType", "AVRO"))}
            case ["subjects", subject]:
                if subject not in self.of.subjects:
                    return 404, {"error_code": 40401, "message": "Subject not found"}
                if (known := self._lookup(subject, body)) is None:
                    return 404, {"error_code": 40403, "message": "Schema not found"}
                return 200, {"subject": subject, "id": known, "version": 1, **self.of.schemas[known]}
            case ["compatibility", "subjects", subject, "versions", "latest"]:
                if subject not in self.of.subjects:
                    return 404, {"error_code": 40401, "message": "Subject not found"}
                return 200, {"is_compatible": subject not in self.of.refusing}
            case ["config", *_] if self.of.hidden:
                return 403, {"error_code": 40301, "message": "Forbidden"}
            case ["config"]:
                return 200, {"compatibilityLevel": self.of.rule}
            case ["config", subject] if body:
                self.of.rules[subject] = body["compatibility"]
                return 200, body
            case ["config", subject]:
                if (rule := self.of.rules.get(subject)) is None:
                    return 404, {"error_code": 40408, "message": "Subject has no compatibility of its own"}
                return 200, {"compatibilityLevel": rule}
        return 404, {"message": "HTTP 404 Not Found"}

    def _lookup(self, subject: str, body: Any) -> int | None:
        """The id of the body's schema under the subject."""
        wanted = {"schema": body["schema"], "schemaType": body.get("schemaType", "AVRO")}
        return next((n for n in self.of.subjects.get(subject, ()) if self.of.schemas[n] == wanted), None)

    def log_message(self, format: str, *args: Any) -> None:
        pass
