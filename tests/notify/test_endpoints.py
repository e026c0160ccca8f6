"""Webhook endpoints between Kafka, a real ledger and a real receiver."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from standardwebhooks import Webhook

from custsvc.config import Settings
from custsvc.domain.customers import Customer, Fields, Stored, utc_now
from custsvc.domain.events import new_change
from custsvc.domain.received import decode
from custsvc.errors import Conflict
from custsvc.kafka.publisher import Publisher, Record
from custsvc.notify.endpoints.manage import Managed
from custsvc.ports.endpoints import Endpoint
from custsvc.ports.ledger import Ledger
from custsvc.ports.store import Store
from tests.backdoor import Backdoor
from tests.waiting import until

from .conftest import Sink
from .receiver import Receiver
from .role import LEASE, notify, process, running
from .scripted import ScriptedHttp, http

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
DAY = 86400.0
OPS = ("created", "updated")


@pytest.fixture
def allowed(settings: Settings, tmp_path: Path) -> Settings:
    """Endpoints may be on this machine, and no rule mails anybody."""
    rules = tmp_path / "none.toml"
    rules.write_text("")
    return settings.replace(webhook_allow="127.0.0.1", notify_rules=str(rules))


@pytest.fixture
def add(store: Store, receiver: Receiver) -> Callable[..., Endpoint]:
    def add(name: str = "one", secret: str = SECRET, **changes: Any) -> Endpoint:
        given = {"url": f"http://127.0.0.1:{receiver.port}/{name}", "ops": OPS, **changes}
        return store.endpoints.add(Endpoint(id=name, created_by="ann", **given), secret)

    return add


def changes(number: int, *names: str, bulk: bool = False) -> list[Record]:
    """The events of a customer who gets these names, one after the other."""
    now = utc_now()
    customer = Customer(number, Fields(names[0], f"c{number}@example.com"), False, 1, now, "t", now, "t")
    made = [new_change("created", None, customer, actor="t", bulk=bulk)]
    for name in names[1:]:
        last = made[-1].after
        after = last.changed_to(
            fields=dataclasses.replace(last.fields, name=name), deleted=False, now=now, by="t"
        )
        before = Stored(last.id, last.version, False, made[-1].doc)
        made.append(new_change("updated", before, after, actor="t", bulk=bulk))
    return [Record(b"%d" % number, change.event.payload, []) for change in made]


def versions(receiver: Receiver, path: str = "/one") -> dict[int, list[int]]:
    """The versions that a receiver got of each customer, in order."""
    found: dict[int, list[int]] = {}
    for where, _, body in receiver.got:
        if where == path:
            event = json.loads(body)
            found.setdefault(event["customer_id"], []).append(event["version"])
    return found


def test_each_endpoint_gets_its_events_signed_and_in_order(
    allowed: Settings, publisher: Publisher, store: Store, receiver: Receiver, add: Callable[..., Endpoint]
) -> None:
    add()
    add("state", payload="state", ops=("updated",), changed=("name",), conditions='{"name": "Cy"}')
    add("mails", changed=("email",), ops=("updated",))
    store.endpoints.add_secret("one", OTHER, 3600.0)
    receiver.answers = [(500, "not now"), (401, "who?"), (200, "ok")]

    with running(notify(allowed)):
        sent = [changes(number, "Ann", "Bo", "Cy", bulk=number > 3) for number in range(1, 6)]
        publisher.send(allowed.topic_updates, [record for records in sent for record in records])
        until("all are kept", lambda: store.ledger.counts().get("sent", 0) == 20)

    got = versions(receiver)
    assert {number: set(found) for number, found in got.items()} == {
        number: {1, 2, 3} for number in range(1, 6)
    }
    assert all(found == sorted(found) for found in got.values())
    states = [(headers, body) for path, headers, body in receiver.got if path == "/state"]
    told = {(json.loads(body)["type"], json.loads(body)["data"]["name"]) for _, body in states}
    assert told == {("customer.updated", "Cy")}
    assert {path for path, _, _ in receiver.got} == {"/one", "/state"}
    values = {orjson.loads(record.value or b"")["id"]: record.value for found in sent for record in found}
    for path, headers, body in receiver.got:
        for secret in (SECRET, OTHER) if path == "/one" else (SECRET,):
            assert Webhook(secret).verify(body, headers)
        if path == "/one":
            assert body == values[json.loads(body)["id"]]


def test_a_receiver_that_fails_for_days_is_paused_its_owner_is_mailed_and_nothing_is_lost(
    allowed: Settings,
    publisher: Publisher,
    sink: Sink,
    store: Store,
    receiver: Receiver,
    backdoor: Backdoor,
    add: Callable[..., Endpoint],
) -> None:
    add(email="owner@example.com", description="CRM")
    receiver.answers = [(503, "down for repair")]

    def found() -> Endpoint:
        there = store.endpoints.find("one")
        assert there is not None
        return there

    with running(notify(allowed)):
        publisher.send(allowed.topic_updates, changes(1, "Ann", "Bo"))
        until("it fails", lambda: found().failing_since)
        backdoor.pass_time(4.9 * DAY)
        until("it is tried again", lambda: found().failure == "503 down for repair")
        assert found().paused_on is None
        backdoor.pass_time(0.2 * DAY)
        until("it is paused", lambda: found().paused_on)
        until("the owner is told", lambda: sink.to("owner@example.com"))
        publisher.send(allowed.topic_updates, changes(2, "Cy"))
        until("more waits", lambda: store.ledger.waiting("webhook:one") == 3)
        calls = len(receiver.got)

        receiver.answers = [(200, "ok")]
        store.ledger.hasten("webhook:one")
        store.endpoints.resume("one")
        until("all are delivered", lambda: store.ledger.waiting("webhook:one") == 0)

    (mail,) = sink.accepted
    assert mail.message["Subject"] == "Webhook paused: CRM"
    assert "503 down for repair" in mail.message.get_content()
    assert "custsvc webhooks resume one" in mail.message.get_content()
    assert len(receiver.got) == calls + 3
    assert {number: sorted(set(got)) for number, got in versions(receiver).items()} == {1: [1, 2], 2: [1]}
    assert found().failing_since is None


def test_a_receiver_that_says_410_is_paused_at_once(
    allowed: Settings, publisher: Publisher, store: Store, receiver: Receiver, add: Callable[..., Endpoint]
) -> None:
    add()
    receiver.answers = [(410, "gone")]

    with running(notify(allowed)):
        publisher.send(allowed.topic_updates, changes(1, "Ann"))
        until("it is paused", lambda: (store.endpoints.find("one") or add()).paused_on)

    assert store.ledger.waiting("webhook:one") == 1
    assert "410 gone" in ((store.endpoints.find("one") or add()).paused_why or "")


def test_a_process_killed_during_a_call_calls_again_with_the_same_id_and_loses_nothing(
    allowed: Settings,
    publisher: Publisher,
    store: Store,
    ledger: Ledger,
    backdoor: Backdoor,
    tmp_path: Path,
    add: Callable[..., Endpoint],
) -> None:
    server = ScriptedHttp(lambda _: [3600.0])
    add(url=server.url)
    publisher.send(allowed.topic_updates, changes(1, "Ann", "Bo"))
    with process(allowed, tmp_path):
        until("it is called", lambda: server.calls)
    first = server.calls[0]

    server.script = lambda _: http()
    backdoor.pass_time(2 * LEASE)
    with process(allowed, tmp_path):
        until("all are delivered", lambda: ledger.counts() == {"sent": 2})

    assert server.calls[:2] == [first, first]
    assert len(server.calls) == 3
    server.close()


def test_a_test_delivery_is_made_once_and_an_address_inside_is_not_called(
    allowed: Settings, store: Store, ledger: Ledger, receiver: Receiver, add: Callable[..., Endpoint]
) -> None:
    add()
    store.endpoints.ask_test("one")
    with running(notify(allowed)):
        until("it is delivered", lambda: ledger.counts() == {"sent": 1})
    assert json.loads(receiver.got[0][2])["type"] == "webhook.test"

    store.endpoints.ask_test("one")
    with running(notify(allowed.replace(webhook_allow=""))):
        until("it fails", lambda: (store.endpoints.find("one") or add()).failure)
    assert "an address inside" in ((store.endpoints.find("one") or add()).failure or "")
    assert len(receiver.got) == 1


def test_the_receiver_of_the_docs_accepts_a_signed_delivery_once_and_nothing_else(
    allowed: Settings, publisher: Publisher, store: Store, receiver: Receiver, add: Callable[..., Endpoint]
) -> None:
    page = Path(__file__).parents[2] / "docs" / "webhooks.md"
    (example,) = re.findall("```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {"__name__": "receiver"}
    exec(example, names)
    client = names["app"].test_client()
    add()
    with running(notify(allowed)):
        publisher.send(allowed.topic_updates, changes(1, "Ann", "Bo"))
        until("both are delivered", lambda: store.ledger.counts() == {"sent": 2})

    calls = [(dict(headers), body) for _, headers, body in receiver.got]
    for headers, body in [*calls, calls[0]]:
        assert client.post("/hook", headers=headers, data=body).status_code == 204
        assert client.post("/hook", headers=headers, data=body + b" ").status_code == 401
    assert names["newest"] == {1: 2}


def test_an_erasure_discards_waiting_deliveries_and_is_delivered_itself(
    allowed: Settings, publisher: Publisher, store: Store, receiver: Receiver, add: Callable[..., Endpoint]
) -> None:
    add(ops=("created", "updated", "erased"))
    made = changes(1, "Ada Secret", "Ada Hidden")
    before = Stored(1, 2, False, decode(made[1].value or b"", b"1").doc())
    after = before.customer().changed_to(fields=Fields("(erased)"), deleted=True, now=utc_now(), by="t")
    erased = new_change("erased", before, after, actor="t").event.payload

    with running(notify(allowed)):
        publisher.send(allowed.topic_updates, [made[0]])
        until("the first arrived", lambda: store.ledger.counts() == {"sent": 1})
        store.endpoints.pause("one", "by hand", "ann")
        publisher.send(allowed.topic_updates, [made[1]])
        until("the second waits", lambda: store.ledger.waiting("webhook:one") == 1)
        publisher.send(allowed.topic_updates, [Record(b"1", erased, [])])
        until("it is given up", lambda: store.ledger.counts().get("discarded") == 1)
        store.endpoints.resume("one")
        until("the erasure arrived", lambda: store.ledger.counts() == {"sent": 2, "discarded": 1})

    assert [json.loads(body)["op"] for _, _, body in receiver.got] == ["created", "erased"]
    assert "Ada" not in str(store.ledger.deliveries("webhook:one")[1:])
    managed = Managed(store, allowed)
    with pytest.raises(Conflict, match="was blanked"):
        managed.redeliver("one", store.ledger.deliveries("webhook:one")[-1].id)
