"""An upgrade under load, and back: roles of the release before beside those of this one (UPGRADING.md)."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest

from custsvc.local import ports
from tests.chaos.clients import Clients
from tests.chaos.conftest import Line
from tests.chaos.roles import Role, clean_environment, request, serves
from tests.waiting import until

ROOT = Path(__file__).parents[2]
# The migration by which this release differs from the one before, as long as no release has a tag.
_SINCE = "custsvc/stores/postgres/migrations/0018_history.sql"
# `-P`: the package is the one that PYTHONPATH names, not that of the current folder.
_COMMAND = (sys.executable, "-P", "-m", "custsvc")


def git(*arguments: str) -> bytes:
    """What git prints, or nothing where it fails."""
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else b""


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release before: of the newest tag, else of the commit before `_SINCE`."""
    commit = git("describe", "--tags", "--abbrev=0", "HEAD^").decode().strip()
    if not commit:
        added = git("log", "--diff-filter=A", "--format=%H", "--", _SINCE).decode().split()
        commit = f"{added[-1]}^" if added else ""
    packed = git("archive", commit, "custsvc", "pyproject.toml") if commit else b""
    if not packed:
        pytest.skip("there is no history of git here")
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return folder


class Fleet:
    """The roles of both releases on one line; each serves at a port of its own."""

    def __init__(self, line: Line, before: Path, folder: Path) -> None:
        self._line = line
        self._folders = {"old": before, "new": ROOT}
        self._logs = folder
        self.ports = {release: ports.choose() for release in self._folders}
        self._running: dict[tuple[str, str], Role] = {}

    def env(self, release: str) -> dict[str, str]:
        env = self._line.env(AUTH="off", PARTITIONS="4") | {"PYTHONPATH": str(self._folders[release])}
        # A release before it does not know this setting.
        env.pop("CUSTSVC_GROUP_PREFIX", None)
        return env

    def run(self, release: str, *arguments: str) -> None:
        """A command of a release, to its end."""
        done = subprocess.run(
            [*_COMMAND, *arguments],
            env={**clean_environment(), **self.env(release)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self, release: str, *roles: str) -> None:
        for name in roles:
            more = ["--port", str(self.ports[release])] if name == "serve" else []
            log = self._logs / f"{release}-{name}.log"
            role = Role([name, *more], self.env(release), log, _COMMAND).start()
            self._running[release, name] = role
            if name == "serve":
                until("it serves", lambda: serves(self.ports[release]))

    def stop(self, release: str, *roles: str) -> None:
        for name in roles:
            assert self._running.pop((release, name)).stop() == 0, f"{release} {name}"

    def ended(self) -> list[str]:
        """The roles that have ended without being asked to."""
        ended = [each for each, role in self._running.items() if not role.is_running()]
        return [" ".join(each) for each in ended]

    def kill(self) -> None:
        for role in self._running.values():
            role.kill()


@pytest.mark.long
def test_an_upgrade_and_the_way_back_lose_nothing_and_stop_nobody(
    line: Line, before: Path, tmp_path: Path
) -> None:
    """R17."""
    fleet = Fleet(line, before, tmp_path)
    turn = threading.local()
    served: list[str] = ["old"]
    writes = {"old": 0, "new": 0}

    def call(method: str, path: str, body: Any) -> Any:
        turn.number = getattr(turn, "number", 0) + 1
        release = served[turn.number % len(served)]
        answer = request(fleet.ports[release], method, path, body)
        writes[release] += answer[0] < 300
        return answer

    def written(release: str) -> None:
        goal = writes[release] + 100
        until(f"{release} serves writes", lambda: writes[release] >= goal)
        assert fleet.ended() == [], "a role has ended"

    others = ("relay", "replicate")
    # The databases of a test have this release's schema.
    empty(line)
    try:
        fleet.run("old", "migrate", "--backend", line.settings.backend)
        fleet.run("old", "migrate", "--backend", line.settings.other_backend)
        fleet.start("old", "serve", *others)
        with Clients(call) as clients:
            written("old")
            for backend in (line.settings.backend, line.settings.other_backend):
                fleet.run("new", "migrate", "--backend", backend)
            written("old")
            for name in ("replicate", "relay"):
                fleet.start("new", name)
                written("old")
                fleet.stop("old", name)
                written("old")
            fleet.start("new", "serve")
            served.append("new")
            written("old")
            written("new")
            served.remove("old")
            written("new")
            fleet.stop("old", "serve")
            # And back.
            fleet.start("old", "serve", *others)
            served.append("old")
            written("old")
            written("new")
            served.remove("new")
            written("old")
            fleet.stop("new", "serve", *reversed(others))
            written("old")
        line.acknowledged |= clients.acknowledged
        line.settle()
        assert clients.surprises == []
        assert line.judge().problems == []
    finally:
        fleet.kill()


def empty(line: Line) -> None:
    """Take the schema away from both databases, as they are before anything is installed."""
    for store in (line.source, line.copy):
        if store.name == "postgres":
            with store._connections.cursor() as cursor:  # type: ignore[attr-defined]
                cursor.execute("DROP SCHEMA public CASCADE")
                cursor.execute("CREATE SCHEMA public")
            store._connections.close()  # type: ignore[attr-defined]
        else:
            database = store._connection.database  # type: ignore[attr-defined]
            for name in database.list_collection_names():
                database.drop_collection(name)
