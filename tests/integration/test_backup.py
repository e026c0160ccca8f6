"""The runbook of docs/backup.md, run as it stands: a backup while writing, a loss, a restore.

What the test replaces: `mongosh` (a program of a few lines), since it comes with no package; and it ends the
roles that a block starts.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from custsvc.config import Settings
from custsvc.copies.replicate import claim
from custsvc.domain.customers import Fields
from custsvc.domain.erasure import is_blank
from custsvc.domain.received import decode
from custsvc.errors import ConfigurationError
from custsvc.kafka.publisher import Publisher
from custsvc.local import LocalServers
from custsvc.local.postgres import Postgres
from custsvc.ports.ledger import Notification
from custsvc.ports.store import Store
from custsvc.relay.relay import Relay
from custsvc.runtime.loop import Stop
from custsvc.service.customers import Caller, CustomerService
from custsvc.stores import open_store
from tests.background import in_background
from tests.chaos.roles import clean_environment
from tests.databases import address
from tests.waiting import until

from .conftest import Topic, Workers, changing

PAGE = Path(__file__).parents[2] / "docs" / "backup.md"
ME = Caller("test")
_BLOCK = re.compile(r"<!-- rehearsed: ([a-z0-9 ]+) -->\n```sh\n(.*?)```", re.DOTALL)
# As far as this page needs it.
_MONGOSH = f"""#!{sys.executable}
import sys
from pymongo import MongoClient
_, _, url, _, what = sys.argv
command = {{"db.fsyncLock()": {{"fsync": 1, "lock": True}}, "db.fsyncUnlock()": {{"fsyncUnlock": 1}}}}[what]
MongoClient(url).admin.command(command)
"""


class Place:
    """A folder with the variables of an installation, in which the blocks of the page are run."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self.settings = settings
        self.blocks = dict(_BLOCK.findall(PAGE.read_text(encoding="utf-8")))
        self.path = [str(Path(sys.executable).parent), os.environ["PATH"]]
        self.more: dict[str, str] = {}

    def run(self, name: str) -> str:
        """Run a block; all that it started ends with it."""
        s = self.settings
        env = clean_environment() | {
            "PATH": ":".join(self.path),
            "CUSTSVC_BACKEND": s.backend,
            "CUSTSVC_POSTGRES_URL": s.postgres_url,
            "CUSTSVC_MONGO_URL": s.mongo_url,
            "CUSTSVC_KAFKA": s.kafka,
            "CUSTSVC_TOPIC_UPDATES": s.topic_updates,
            "CUSTSVC_TOPIC_NOTIFY": s.topic_notify,
            "CUSTSVC_TOPIC_FAILED": s.topic_failed,
            "CUSTSVC_TOPIC_DEAD": s.topic_dead,
            "CUSTSVC_LOCAL": "never",
            **self.more,
        }
        script = f"trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\nset -eu\n{self.blocks.pop(name)}"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{name}: {done.stdout}"
        return done.stdout


class PostgresSource:
    """A database on the shared server, which is restored into another cluster, younger than its own."""

    def __init__(self, folder: Path, stack: ExitStack, all_databases: Callable[[str], Any]) -> None:
        databases = all_databases("postgres")
        self.url = databases.migrated()
        stack.callback(databases.drop, self.url)
        self._servers = LocalServers(folder / "restored", names=["postgres"], ephemeral=True)
        stack.callback(self._servers.stop)
        self._servers.start()
        server = self._servers.server("postgres")
        assert isinstance(server, Postgres)
        self._restored = server.url
        self.binaries = str(server._binaries)

    def prepare(self, place: Place) -> None:
        place.path.insert(0, self.binaries)

    def restore(self, place: Place) -> None:
        place.settings = place.settings.replace(postgres_url=self._restored)
        place.run("restore postgres")


class MongoSource:
    """A server of the test's own, whose files are copied."""

    def __init__(self, folder: Path, stack: ExitStack, _all_databases: Callable[[str], Any]) -> None:
        self._folder = folder / "own"
        self._servers = LocalServers(self._folder, names=["mongo"])
        stack.callback(self._servers.stop)
        self.url = self._servers.start()["CUSTSVC_MONGO_URL"]
        with open_store(Settings(**address("mongo", self.url))) as store:
            store.migrate()

    def prepare(self, place: Place) -> None:
        programs = place.folder / "bin"
        programs.mkdir()
        (programs / "mongosh").write_text(_MONGOSH)
        (programs / "mongosh").chmod(0o755)
        place.path.insert(0, str(programs))
        place.more["MONGO_DATA"] = str(self._folder / "mongo" / "data")

    def restore(self, place: Place) -> None:
        self._servers.stop()
        place.run("restore mongo")
        place.settings = place.settings.replace(mongo_url=self._servers.start()["CUSTSVC_MONGO_URL"])


Source = PostgresSource | MongoSource


@pytest.fixture
def source(backend: str, tmp_path: Path, all_databases: Callable[[str], Any]) -> Iterator[Source]:
    with ExitStack() as stack:
        yield (PostgresSource if backend == "postgres" else MongoSource)(tmp_path, stack, all_databases)


@pytest.fixture
def place(
    backend: str, source: Source, settings: Settings, all_databases: Callable[[str], Any], tmp_path: Path
) -> Iterator[Place]:
    other = "mongo" if backend == "postgres" else "postgres"
    copy = all_databases(other).migrated()
    (tmp_path / "place").mkdir()
    urls = {**address(other, copy), **address(backend, source.url)}
    place = Place(tmp_path / "place", settings.replace(**urls))
    source.prepare(place)
    yield place
    all_databases(other).drop(copy)


def mail(name: str) -> Notification:
    return Notification(name, f"event-{name}", None, 1, "changed", f"{name}@example.com", "Hi", "Hello", None)


def test_the_runbook_brings_everything_to_the_state_of_the_backup(
    place: Place, source: Source, topic: Topic, workers: Workers
) -> None:
    settings = place.settings
    workers = workers.with_settings(settings)
    with ExitStack() as stack:
        before = stack.enter_context(open_store(settings))
        copy = stack.enter_context(open_store(settings, settings.other_backend))
        before.claim_role("source")
        copy.claim_role("copy")
        claim(copy, settings.other_backend)
        service = CustomerService(before.customers)
        ids = [service.create(Fields(f"c{n}", f"c{n}@example.com"), ME).id for n in range(6)]
        kept, changed, deleted, erased, *hot = ids
        service.replace(changed, Fields("at the backup"), ME)
        before.ledger.add([mail("waits"), mail("sent")])
        with workers.running_relay(before):
            with changing(before, hot):
                place.run(f"back up {settings.backend}")
            published(before)
            before.ledger.discard(["waits"], "sent, after the backup")

            # What will be lost.
            service.replace(changed, Fields("after the backup"), ME)
            service.delete(deleted, ME)
            service.erase(erased, ME)
            lost = service.create(Fields("lost", "lost@example.com"), ME).id
            published(before)
        unsent = service.create(Fields("lost, and not sent"), ME).id
        sent = versions(topic, settings)
        rows = {row.id: row for row in before.contents.scan(0, 1000) if row.id != unsent}
        stop = Stop()
        with in_background(lambda: workers.run_copy(copy.replica, uuid.uuid4().hex, stop), stop):
            until("the copy is there", lambda: rows == {row.id: row for row in copy.contents.scan(0, 1000)})

    source.restore(place)

    with open_store(place.settings) as restored, Publisher(place.settings) as publisher:
        assert stored(restored, changed) == ("at the backup", 2)
        assert restored.customers.get(lost) is None
        with pytest.raises(ConfigurationError, match=r"older state|two sources|another cluster") as refused:
            Relay(place.settings, restored, publisher, Stop()).run()
        assert "relay --resync" in (refused.value.fix or "")

    # On a busy machine it takes longer to join a group than a reader of the page wants to wait.
    place.blocks["resync"] = place.blocks["resync"].replace("custsvc verify", "custsvc verify --wait 200")
    assert "all identical" in place.run("resync")
    place.run("accounts")
    place.blocks["mails"] = place.blocks["mails"].replace("custsvc notify --max-age 0 &", ":")
    assert "held as unknown" in place.run("mails")

    with ExitStack() as stack:
        restored = stack.enter_context(open_store(place.settings))
        copy = stack.enter_context(open_store(place.settings, place.settings.other_backend))
        rows = {row.id: row for row in restored.contents.scan(0, 1000)}
        assert rows == {row.id: row for row in copy.contents.scan(0, 1000)}
        assert all(rows[each].version >= version for each, version in sent.items())
        assert stored(restored, changed) == ("at the backup", 4)
        assert stored(restored, kept) == ("c0", 1)
        assert not rows[deleted].deleted
        assert rows[lost].deleted
        assert is_blank(decode(newest(restored, erased), b"%d" % erased).after)
        assert b"c3@example.com" not in b"".join(restored.customers.history(erased, limit=9))
        service = CustomerService(restored.customers)
        assert service.create(Fields("new"), ME).id > max(lost, unsent)
        assert restored.ledger.counts() == {"unknown": 2}
    left = {name for name in place.blocks if not name.endswith(place.settings.other_backend)}
    assert left == set(), "a block of the page is not run"


def published(store: Store) -> None:
    until("the outbox is empty", lambda: store.outbox.depth().waiting == 0)


def versions(topic: Topic, settings: Settings) -> dict[int, int]:
    """The highest version of each customer that consumers have."""
    found: dict[int, int] = {}
    for record in topic.records(settings.topic_updates):
        event = decode(record.value(), record.key())
        found[event.customer_id] = max(event.version, found.get(event.customer_id, 0))
    return found


def stored(store: Store, customer_id: int) -> tuple[str, int]:
    found = store.customers.get(customer_id)
    assert found is not None
    return found.customer().fields.name, found.version


def newest(store: Store, customer_id: int) -> bytes:
    (event,) = store.customers.history(customer_id, limit=1)
    return event
