"""A whole custsvc as a user runs it: `custsvc up` as a process, seen from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Sequence
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

from custsvc.local import LocalServers, ports, runs
from tests.chaos import checker
from tests.chaos.clients import Clients
from tests.chaos.roles import COMMAND, clean_environment
from tests.waiting import until


class Stack:
    """`custsvc up` over a data folder of its own. `with Stack(tmp_path) as stack: …`"""

    def __init__(self, folder: Path, backend: str = "postgres", *options: str) -> None:
        self.data_dir = folder / "data"
        self.backend = backend
        self.port = ports.choose()
        self._options = options
        self._output = folder / "up.out"
        self.env: dict[str, str] = {}
        self._mails: dict[str, tuple[str, str]] = {}

    def __enter__(self) -> Stack:
        self._start()
        return self

    def _start(self) -> None:
        folder = str(self.data_dir)
        argv = [*COMMAND, "up", "--backend", self.backend, "--port", str(self.port), "--data-dir", folder]
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [*argv, *self._options],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=clean_environment(),
                start_new_session=True,
            )
        try:
            until("custsvc up is ready", self._is_ready, 300)
        except BaseException:
            self.stop()
            raise
        self.env = json.loads(self.run("env", "-o", "json").stdout)

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Have `up` end everything that it started, and wait for it. Once more does nothing."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        self._process.wait(120)
        runs.down(self.data_dir, lambda _: None)

    def _is_ready(self) -> bool:
        if self._process.poll() is not None:
            raise AssertionError(f"custsvc up ended:\n{self.output()}")
        return runs.status(self.data_dir).ready

    def output(self) -> str:
        """The output of `up` so far."""
        return self._output.read_text(errors="replace")

    def run(
        self, *arguments: str, check: bool = True, seconds: float = 300, named: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Another custsvc command, on the same servers; not `named`, it has to find the system of record."""
        done = subprocess.run(
            [*COMMAND, *arguments],
            env={
                **clean_environment(),
                "CUSTSVC_DATA_DIR": str(self.data_dir),
                **({"CUSTSVC_BACKEND": self.backend} if named else {}),
            },
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert not check or done.returncode == 0, (
            f"{arguments} exited {done.returncode}:\n{done.stdout}{done.stderr}"
        )
        return done

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Another custsvc command, in the background. The caller waits for it."""
        return subprocess.Popen(
            [*COMMAND, *arguments],
            env={
                **clean_environment(),
                "CUSTSVC_DATA_DIR": str(self.data_dir),
                "CUSTSVC_BACKEND": self.backend,
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def pid(self, name: str) -> int | None:
        """The process of a role or server, None while it does not run."""
        for part in runs.status(self.data_dir).parts:
            if part.name == name and part.running:
                return part.pid
        return None

    def kill(self, name: str) -> None:
        """kill -9, and wait until the supervisor has started it again."""
        old = until(f"{name} runs", lambda: self.pid(name))
        os.kill(old, signal.SIGKILL)
        until(f"{name} runs again", lambda: self.pid(name) not in (None, old))

    def kill_up(self, roles: Sequence[str]) -> None:
        """kill -9 of `up` itself: its roles end with it, and the next `up` goes on where they were."""
        pids = [self.pid(name) for name in roles]
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait(60)
        until("the roles ended with it", lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
        self._start()

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        seconds: float = 15,
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, parsed body and headers of one HTTP call. OSError where there is no answer."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data,
            {"content-type": "application/json", **(headers or {})},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                return answer.status, json.loads(answer.read() or b"null"), dict(answer.headers)
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, json.loads(refused.read() or b"null"), dict(refused.headers)

    def copied(self, customer_id: int) -> tuple[int, str] | None:
        """One customer in the copy, as (version, document)."""
        if self.copy == "postgres":
            return checker.read_postgres(self.env["CUSTSVC_POSTGRES_URL"], customer_id).get(customer_id)
        return checker.read_mongo(self.env["CUSTSVC_MONGO_URL"], customer_id).get(customer_id)

    def customers(self, backend: str) -> dict[int, tuple[int, str]]:
        """Everything in one of the databases, by the bare driver."""
        if backend == "postgres":
            return checker.read_postgres(self.env["CUSTSVC_POSTGRES_URL"])
        return checker.read_mongo(self.env["CUSTSVC_MONGO_URL"])

    @property
    def copy(self) -> str:
        return "mongo" if self.backend == "postgres" else "postgres"

    @property
    def mail_dir(self) -> Path:
        return LocalServers(self.data_dir).home / "mail"

    def mails(self) -> list[str]:
        return checker.read_mails(self.mail_dir)

    def subjects(self, recipient: str) -> list[str]:
        """The subjects of the mails to somebody, in the order in which they came."""
        for path in sorted(self.mail_dir.rglob("*.eml"), key=lambda path: path.stat().st_mtime_ns):
            if path.name not in self._mails:
                mail = message_from_bytes(path.read_bytes(), policy=policy.default)
                self._mails[path.name] = (str(mail["To"]), str(mail["Subject"]))
        return [subject for to, subject in self._mails.values() if recipient in to]

    def check(self, acknowledged: dict[int, int]) -> checker.Findings:
        """All invariants, over everything there is."""
        return checker.check(
            self.customers(self.backend),
            self.customers(self.copy),
            checker.read_topic(self.env["CUSTSVC_KAFKA"]),
            acknowledged,
            self.mails(),
        )


__all__ = ["COMMAND", "Clients", "Stack", "clean_environment", "until"]
