"""After an erasure, no place in the database has personal data of the customer."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import pytest
from flask import Flask

from custsvc.config import Settings
from custsvc.ports.accounts import Role
from custsvc.ports.ledger import Notification
from custsvc.ports.store import Store
from custsvc.serve import create_app
from custsvc.serve.purge import purge
from tests.backdoor import Backdoor
from tests.waiting import until

from .conftest import Client

EMAIL = "canary.ann@example.org"
PERSONAL = ("canary", "5550199")


@pytest.fixture
def pages(settings: Settings, store: Store) -> Flask:
    return create_app(settings.replace(auth="off"), store)


def _upload(pages: Flask, content: bytes) -> str:
    """A file with its plan, as the pages make them; returns the path of the plan."""
    browser = pages.test_client()
    found = re.search(
        r'name="csrf" value="(\w+)"', browser.get("/ui/import", base_url="http://localhost").text
    )
    csrf = found[1] if found else ""
    data = {"csrf": csrf, "file": (io.BytesIO(content), "canary.csv")}
    at = browser.post("/ui/import", base_url="http://localhost", data=data).location
    browser.get(at, base_url="http://localhost")
    plan = browser.post(at, base_url="http://localhost", data={"csrf": csrf}).location
    until("it is read", lambda: "so far" not in browser.get(plan, base_url="http://localhost").text)
    return str(plan)


def _found(backdoor: Backdoor) -> set[str]:
    dump = backdoor.dump()
    return {word for word in PERSONAL if word in dump}


def test_no_table_holds_anything_of_an_erased_customer(
    client: Client,
    app: Flask,
    pages: Flask,
    store: Store,
    backdoor: Backdoor,
    make_key: Callable[[Role], str],
) -> None:
    key = {"Idempotency-Key": "once"}
    ann = {
        "name": "canary Ann",
        "email": "canary.old@example.org",
        "phone": "5550199",
        "metadata": {"a": "canary"},
    }
    made = client.post("/api/customers/", json=ann, headers=key).json
    client.patch(f"/api/customers/{made['id']}", json={"email": EMAIL}, headers={"Idempotency-Key": "twice"})
    client.create(name="Bob", email="bob@example.org")
    for address in (EMAIL, "canary.old@example.org", "bob@example.org"):
        store.recipients.suppress(address, "bounced", detail=f"550 no mailbox {address}")
    store.ledger.add(
        [
            Notification(
                "n1", "e1", made["id"], 1, "welcome", EMAIL, "Hi canary Ann", "canary", "<p>canary</p>"
            )
        ]
    )
    _upload(pages, b"name,email,phone\ncanary Ann,canary.ann@example.org,5550199\nX,no-address-canary,1\n")
    assert _found(backdoor) == set(PERSONAL)

    answer = Client(app, make_key("admin")).post(f"/api/customers/{made['id']}/erase")
    # As notify does for the event.
    store.ledger.forget(made["id"], answer.json["version"])

    assert answer.status_code == 200
    assert _found(backdoor) == set()
    assert set(store.recipients.suppressed([EMAIL, "bob@example.org"])) == {"bob@example.org"}
    assert client.post("/api/customers/", json=ann, headers=key).json["id"] == made["id"]


def test_an_address_that_another_customer_has_stays_suppressed(
    client: Client, app: Flask, store: Store, make_key: Callable[[Role], str]
) -> None:
    one, _ = client.create(email=EMAIL), client.create(email=EMAIL)
    store.recipients.suppress(EMAIL, "bounced")

    Client(app, make_key("admin")).post(f"/api/customers/{one['id']}/erase")

    assert EMAIL in store.recipients.suppressed([EMAIL])


def test_files_and_reports_are_purged_when_their_day_is_over(
    pages: Flask, store: Store, backdoor: Backdoor, settings: Settings
) -> None:
    _upload(pages, b"name,phone\ncanary Ann,5550199\n")
    purge(store, settings)
    assert _found(backdoor)

    assert store.shelf.all("part.")
    for name, value in store.shelf.all("").items():
        store.shelf.put(name, value, -1.0)
    purge(store, settings)

    assert _found(backdoor) == set()
    assert store.shelf.all("part.") == store.shelf.all("job.") == {}
