"""The page about permissions grants what each role needs, and doctor names missing rights."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest

from custsvc.accounts.keys import new_key
from custsvc.config import Settings
from custsvc.copies.origin import Origin
from custsvc.copies.replicate import Replicate
from custsvc.doctor import access as doctor_access
from custsvc.errors import ConfigurationError, CustsvcError
from custsvc.kafka.publisher import Publisher
from custsvc.notify.run import run_notify
from custsvc.ports.endpoints import Endpoint
from custsvc.ports.rights import ROLES, RoleName
from custsvc.ports.store import Store
from custsvc.retention.trim import Trim
from custsvc.runtime.loop import Stop
from custsvc.serve import create_app
from custsvc.serve.purge import purge
from tests.api.conftest import Client
from tests.api.story import BASE, NDJSON
from tests.background import in_background
from tests.conftest import Databases, Servers, open_database
from tests.secure_mongo import SecureMongo, secure_mongo
from tests.waiting import until

from .conftest import Workers

PAGE: Final = Path(__file__).parents[2] / "docs" / "permissions.md"
PASSWORD: Final = "limited"


def block(role: RoleName, server: str) -> str:
    """The commands of the page that give a role its rights."""
    found = re.search(rf"### {re.escape(role)} on {server}\n```\w+\n([^`]*)```", PAGE.read_text())
    assert found is not None
    return found[1]


class Owner(Protocol):
    """The owner of a migrated database, who gives others access to it."""

    url: str

    def account(self, role: RoleName) -> str:
        """The address for a new account with what the page grants to this role."""

    def take(self, role: RoleName) -> str:
        """Take one thing from that account; what it is."""


class PostgresOwner:
    def __init__(self, databases: Databases, stack: ExitStack) -> None:
        self.url = databases.migrated()
        stack.callback(databases.drop, self.url)
        self._name = urlsplit(self.url).path[1:]
        self._accounts: dict[RoleName, str] = {}
        connection = stack.enter_context(closing(psycopg2.connect(self.url)))
        connection.autocommit = True
        self._cursor = connection.cursor()
        self._cursor.execute(f"REVOKE ALL ON DATABASE {self._name} FROM PUBLIC")
        stack.callback(self._drop)

    def account(self, role: RoleName) -> str:
        user = self._accounts[role] = f"limited_{uuid.uuid4().hex[:12]}"
        self._cursor.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'")
        self._cursor.execute(f"GRANT CONNECT ON DATABASE {self._name} TO {user}")
        statements = re.sub(r"custsvc_\w+;", f"{user};", block(role, "PostgreSQL"))
        self._cursor.execute(statements.replace("DATABASE custsvc", f"DATABASE {self._name}"))
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(netloc=f"{user}:{PASSWORD}@{parts.hostname}:{parts.port}"))

    def take(self, role: RoleName) -> str:
        self._cursor.execute(f"REVOKE DELETE ON custsvc_meta FROM {self._accounts[role]}")
        return "DELETE on custsvc_meta"

    def _drop(self) -> None:
        for user in self._accounts.values():
            self._cursor.execute(f"DROP OWNED BY {user}; DROP ROLE {user}")
        self._cursor.execute(f"GRANT CONNECT, TEMPORARY ON DATABASE {self._name} TO PUBLIC")


class MongoOwner:
    def __init__(self, server: SecureMongo) -> None:
        self._server = server
        self._name = f"test_{uuid.uuid4().hex}"
        self.url = server.owner_url(self._name)
        with open_database("mongo", self.url) as store:
            store.migrate()

    def account(self, role: RoleName) -> str:
        name, database = role.replace(" ", ""), self._server.client[self._name]
        made = json.loads(block(role, "MongoDB").strip().removeprefix("db.createRole(").removesuffix(")"))
        for privilege in made["privileges"]:
            privilege["resource"]["db"] = self._name
        database.command("createRole", name, privileges=made["privileges"], roles=made["roles"])
        database.command("createUser", name, pwd=PASSWORD, roles=[name])
        return self._server.url(name, PASSWORD, self._name)

    def take(self, role: RoleName) -> str:
        resource = {"db": self._name, "collection": "custsvc_meta"}
        taken = [{"resource": resource, "actions": ["remove"]}]
        self._server.client[self._name].command(
            "revokePrivilegesFromRole", role.replace(" ", ""), privileges=taken
        )
        return "remove on custsvc_meta"


@pytest.fixture(scope="module")
def secured() -> Iterator[SecureMongo]:
    with secure_mongo() as server:
        yield server


@pytest.fixture
def owner(
    all_databases: Callable[[str], Databases], secured: SecureMongo
) -> Iterator[Callable[[str], Owner]]:
    databases = all_databases("postgres")
    with ExitStack() as stack:
        yield (
            lambda backend: PostgresOwner(databases, stack) if backend == "postgres" else MongoOwner(secured)
        )


class Opened:
    """A database as each of its roles has it, with what the page grants."""

    def __init__(self, backend: str, owner: Owner, roles: Sequence[RoleName], stack: ExitStack) -> None:
        self.owner = owner
        self.addresses = {role: owner.account(role) for role in roles}
        self._stores = {
            role: stack.enter_context(open_database(backend, url)) for role, url in self.addresses.items()
        }

    def __getitem__(self, role: RoleName) -> Store:
        return self._stores[role]


@pytest.fixture
def source(backend: str, owner: Callable[[str], Owner]) -> Iterator[Opened]:
    with ExitStack() as stack:
        yield Opened(backend, owner(backend), ("serve", "relay", "notify", "maintain", "commands"), stack)


@pytest.fixture
def copy(backend: str, owner: Callable[[str], Owner]) -> Iterator[Opened]:
    other = "mongo" if backend == "postgres" else "postgres"
    with ExitStack() as stack:
        yield Opened(other, owner(other), ("replicate", "serve --read-only"), stack)


def write(client: Client) -> None:
    """A change of each kind."""
    one = client.create(name="One")["id"]
    body = {"name": "Two", "email": "two@example.com"}
    kept = client.post(BASE, json=body, headers={"Idempotency-Key": "k"})
    two = kept.json["id"]
    path = f"{BASE}{one}"
    bodies: list[tuple[str, str, Any]] = [
        ("PUT", path, {"name": "First"}),
        ("PATCH", path, {"metadata": {"a": 1}}),
        ("DELETE", path, None),
        ("POST", f"{path}/restore", None),
        ("POST", f"{path}/erase", None),
        ("POST", f"{BASE}batch", {"operations": [{"op": "update", "id": two, "customer": {"name": "2"}}]}),
    ]
    for method, where, body in bodies:
        answer = client(method, where, json=body)
        assert answer.status_code in (200, 204), (where, answer.text)
    rows = b'{"name": "Third"}\n{"name": "Fourth"}\n'
    answer = client.post(f"{BASE}import", data=rows, headers={"Content-Type": NDJSON})
    assert answer.status_code == 200, answer.text


def manage_webhooks(client: Client) -> None:
    """An endpoint from its making to its end."""
    made = client.post("/api/webhooks", json={"url": "https://crm.example.com/"})
    assert made.status_code == 201, made.text
    one = f"/api/webhooks/{made.json['id']}"
    asked = [("PATCH", one), ("GET", one), ("GET", f"{one}/deliveries")]
    asked += [("POST", f"{one}/{each}") for each in ("rotate", "test", "pause", "resume")]
    for method, where in [*asked, ("DELETE", one)]:
        answer = client(method, where, json={} if method == "PATCH" else None)
        assert answer.status_code in (200, 202, 204), (where, answer.text)


def read(client: Client, *more: str) -> None:
    """Send requests that only read; `more` for one customer."""
    one = client.get(BASE).json["results"][0]["id"]
    paths = ["?q=fi&count=exact", "?sort=name", "export", f"{one}", *(f"{one}/{each}" for each in more)]
    for path in [*(BASE + path for path in paths), "/api/status", "/metrics", "/readyz"]:
        answer = client.get(path)
        assert answer.status_code == 200, (path, answer.text)


@contextmanager
def copying(settings: Settings, copy: Store) -> Iterator[None]:
    """A copy that follows until the end of the block."""
    stop = Stop()
    with Publisher(settings) as publisher:
        origin = Origin(settings, copy)
        replicate = Replicate(settings, copy.replica, publisher, copy.name, stop, origin=origin)
        with in_background(replicate.run, stop):
            yield


def test_every_role_runs_with_the_rights_that_the_page_grants(
    backend: str,
    source: Opened,
    copy: Opened,
    settings: Settings,
    servers: Servers,
    workers: Workers,
    tmp_path: Path,
) -> None:
    """Each with an account of its own, from a change to the copy and the mail."""
    mine = settings.replace(backend=backend, smtp_url=servers.url("mail"))
    text, key = new_key("all", "admin")
    source["commands"].keys.add(key)
    for role in ("serve", "relay", "notify", "maintain", "commands"):
        assert source[role].migrate() == []
        source[role].claim_role("source")
    source["commands"].customers.ids_above(5)
    writer = Client(create_app(mine, source["serve"]), text)
    write(writer)
    manage_webhooks(writer)
    with pytest.raises(CustsvcError):
        source["serve"].endpoints.secrets()
    inside = Endpoint("inside", "https://127.0.0.1/", ("created",), "t")
    source["commands"].endpoints.add(inside, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    read(writer, "history", "notifications")
    purge(source["serve"], mine)

    assert copy["replicate"].migrate(lists=False) == []
    copy["replicate"].claim_role("copy")
    relay = workers.relay(source["relay"])
    everything = source["commands"].replica.digest(0)
    with copying(settings, copy["replicate"]):
        until("the copy is the same", lambda: copy["replicate"].replica.digest(0) == everything)
    sending = Stop()
    addressed = mine.replace(**{f"{backend}_url": source.addresses["notify"]})
    with in_background(lambda: run_notify(addressed, sending), sending):
        ledger = source["notify"].ledger
        until("mails are sent", lambda: ledger.counts().get("sent"))
        endpoints = source["notify"].endpoints
        until("a webhook fails", lambda: any(each.failing_since for each in endpoints.all()))
    relay.ask()
    until("all is marked as sent", lambda: source["commands"].outbox.depth().waiting == 0)
    trimmed = Trim(source["maintain"], settings.topic_updates, 0.0, tmp_path, Stop()).run()
    assert trimmed.outdated > 0
    assert len(trimmed.files) == 1

    shown = copy["serve --read-only"]
    assert shown.index_lists() is False
    with open_database(shown.name, copy.owner.url) as owned:
        owned.keys.add(key)
    reader = Client(create_app(mine.replace(backend=shown.name, read_only=True), shown), text)
    read(reader)
    purge(shown, mine)


def test_doctor_names_the_rights_that_an_account_lacks(backend: str, source: Opened) -> None:
    settings = Settings(backend=backend, history_keep="90d")  # type: ignore[arg-type]

    def found(role: RoleName) -> dict[str, str]:
        rights = list(doctor_access.rights(source[role], settings))
        return {finding.check.rpartition(" of ")[2]: finding.detail for finding in rights}

    for role in ("serve", "relay", "notify", "maintain", "commands"):
        before = found(role)
        assert before[role] == "all that it needs"
        assert "as its owner" in before["migrate"]
        taken = source.owner.take(role)
        assert found(role)[role] == f"this account lacks {taken}"
    with open_database(backend, source.owner.url) as owned:
        assert owned.may_migrate()
        assert [owned.lacking(role) for role in ROLES] == [[]] * len(ROLES)


@pytest.mark.parametrize("backend", ["mongo"])
def test_an_account_that_may_not_migrate_gets_an_error_that_names_who_should(
    backend: str, secured: SecureMongo
) -> None:
    owner = MongoOwner(secured)
    address = owner.account("serve")
    database = secured.client[urlsplit(owner.url).path[1:]]
    database["custsvc_migration"].delete_one({"_id": 11})

    with (
        open_database(backend, address) as store,
        pytest.raises(ConfigurationError, match=r"notification_order.*may not change it") as refused,
    ):
        store.migrate()

    assert "custsvc migrate" in (refused.value.fix or "")


def test_a_source_keeps_its_name_when_its_account_may_less(backend: str, source: Opened) -> None:
    with open_database(backend, source.owner.url) as owned:
        name = owned.outbox.source()

    assert {source[role].outbox.source() for role in ("relay", "serve", "commands")} == {name}
