"""`custsvc serve` as a process, on a port of its own."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from custsvc.local import ports
from tests.processes import run_custsvc
from tests.waiting import until

JSON = {"Content-Type": "application/json"}


# Every wait ends with this, and none is expected to come near it: the machine may have much else to do.
DEADLINE = 90.0
# While a process starts or ends.
AWAY = (OSError, http.client.HTTPException, psutil.Error)


eventually = partial(until, seconds=DEADLINE, despite=AWAY)


class Serve:
    """A `custsvc serve` on a port of its own."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.port = ports.choose()
        self.log = folder / "serve.log"
        self._folder = folder
        self.environ = environ
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "custsvc", *arguments]

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """A command that ends by itself."""
        return run_custsvc(*arguments, env={**self.environ, **environ}, cwd=self._folder)

    def start(self, *arguments: str) -> Serve:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command("serve", "--port", str(self.port), *arguments),
                env=self.environ,
                cwd=self._folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.answers("GET", "/livez")
        return self

    def answers(self, method: str, path: str, key: str | None = None, body: Any = None) -> None:
        """Ask until the answer is 200 or 201."""
        eventually(f"{path} is answered", lambda: self.request(method, path, key, body)[0] in (200, 201))

    def workers(self) -> list[psutil.Process]:
        assert self.process is not None
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]

    def two_workers(self) -> list[psutil.Process]:
        return eventually("two workers run", lambda: len(found := self.workers()) == 2 and found)

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)

    def request(
        self, method: str, path: str, key: str | None = None, body: Any = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = self.connect()
        headers = dict(JSON) if body is not None else {}
        if key:
            headers["X-Api-Key"] = key
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, content

    def raw(self, text: bytes) -> bytes:
        """The answer to exactly these bytes, until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE) as connection:
            connection.sendall(text)
            received = b""
            while piece := connection.recv(65536):
                received += piece
            return received

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(DEADLINE)

    def said(self) -> list[str]:
        """What its log tells, as words of actions; of a worker that was lost it tells more."""
        return [json.loads(line)["action"] for line in self.log.read_text().splitlines()]

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def slow_post(serve: Serve, key: str, length: int, expect: str = "nothing") -> socket.socket:
    """A connection that has sent the head of a write and the first byte of its body."""
    connection = socket.create_connection(("127.0.0.1", serve.port), timeout=DEADLINE)
    head = (
        f"POST /api/customers/ HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {key}\r\nExpect: {expect}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
    connection.sendall(head.encode() + b"{")
    return connection
