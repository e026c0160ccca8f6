"""All data of a person: the bundle and the erasure know the same places, on both databases."""

from __future__ import annotations

import io
import logging
import zipfile
from collections.abc import Callable

import orjson
import pytest
from flask import Flask

from custsvc.copies import person
from custsvc.domain.canonical import canonical_fields
from custsvc.domain.customers import Fields
from custsvc.domain.erasure import PLACES
from custsvc.ports.accounts import User
from custsvc.ports.duplicates import Pair, Versions
from custsvc.ports.ledger import Notification
from custsvc.ports.shelf import Shelved
from custsvc.ports.store import Store
from custsvc.service.customers import Caller
from custsvc.service.merging import Merge
from tests.backdoor import Backdoor

from .conftest import Visitor, words

# Tables without personal data of customers. A new table belongs here or in PLACES.
OF_NOBODY = frozenset(
    "custsvc_migration custsvc_meta api_key app_user second_factor password_reset web_session".split()
    + "sign_in_try answer outbox_cursor replica_position webhook_endpoint webhook_secret".split()
)


@pytest.fixture
def root(app: Flask, make_user: Callable[..., User]) -> Visitor:
    make_user("root", "admin")
    visitor = Visitor(app)
    assert visitor.sign_in("root").status_code == 303
    visitor.get("/ui/customers/new")
    return visitor


def mail(name: str, customer_id: int | None, to: str) -> Notification:
    return Notification(
        name, f"e-{name}", customer_id, 1, "welcome", to, f"canary-{name}", f"canary-{name}", None
    )


def fields(name: str, email: str) -> Fields:
    return canonical_fields({"name": name, "email": email})


def everywhere(app: Flask, store: Store) -> tuple[int, int, int]:
    """A person with something in each place of the database; the ids: it, one merged into it, another."""
    customers, who = app.extensions["custsvc"].customers, Caller("test", "request")
    ann = customers.create(fields("canary-customer", "ann@example.org"), who).id
    inside = customers.create(fields("canary-inside", "inside@example.org"), who).id
    other = customers.create(fields("Other", "other@example.org"), who).id
    customers.update(ann, lambda _: fields("canary-history", "ann@example.org"), who)
    customers.update(ann, lambda _: fields("canary-now", "ann@example.org"), who)
    customers.merge(ann, Merge({inside: None}, {}), who)
    store.ledger.add([mail("mails", ann, "ann@example.org"), mail("requested", None, "inside@example.org")])
    store.recipients.suppress("ann@example.org", "manual", detail="canary-suppressed")
    store.recipients.set_wanted(ann, "canary-rule", False)
    store.duplicates.dismiss({Pair(ann, other): Versions(1, 1)}, "test")
    store.shelf.put(f"{Shelved.UPLOAD}canary-upload", b"canary-file", 60)
    return ann, inside, other


def bundle_of(root: Visitor, customer_id: int) -> dict[str, bytes]:
    answer = root.client.get(f"/ui/customers/{customer_id}/data/bundle", base_url=root.base_url)
    assert answer.status_code == 200
    with zipfile.ZipFile(io.BytesIO(answer.data)) as found:
        return {name: found.read(name) for name in found.namelist()}


def test_the_bundle_reads_each_place_that_an_erasure_knows() -> None:
    assert set(person._READERS) == {place.name for place in PLACES if place.given}


def test_each_table_is_a_place_of_persons_or_of_nobody(store: Store, backdoor: Backdoor) -> None:
    held = {table for place in PLACES for table in place.tables}
    mongo_only = {"position", "counter"}

    assert backdoor.tables() <= held | OF_NOBODY | mongo_only


def test_the_bundle_has_all_that_is_known_of_a_person(app: Flask, root: Visitor, store: Store) -> None:
    ann, inside, other = everywhere(app, store)

    found = bundle_of(root, ann)

    for place, canary in {
        "customer": b"canary-now",
        "history": b"canary-history",
        "mails": b"canary-mails",
        "requested_mails": b"canary-requested",
        "suppressions": b"canary-suppressed",
        "unsubscribed": b"canary-rule",
        "dismissed": b'"low":%d' % ann,
        "uploads": b"canary-upload",
    }.items():
        assert canary in found[f"{place}.ndjson"], place
    assert b"canary-inside" in found["customer.ndjson"]
    assert b"canary-file" not in b"".join(found.values())
    assert b"Other" not in b"".join(found.values())
    about = orjson.loads(found["contents.json"])
    assert about["customers"] == [ann, inside]
    assert {each["file"] for each in about["places"] if each["file"]} == set(found) - {"contents.json"}
    assert all(
        len(found[each["file"]].splitlines()) == each["rows"] for each in about["places"] if each["file"]
    )
    assert other not in about["customers"]


def test_an_erasure_needs_its_phrase_and_the_page_says_what_is_left(
    app: Flask, root: Visitor, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "custsvc.web.person")
    ann, inside, _ = everywhere(app, store)
    page = f"/ui/customers/{ann}/data"
    root.get(page)

    root.post(f"/ui/customers/{ann}/erase", typed=f"erase {inside}")
    assert "Nothing was erased" in words(root.get(page))
    assert root.post(f"/ui/customers/{ann}/erase", typed=f" Erase {ann}").status_code == 303
    told = words(root.get(page))
    assert "1 customer merged into it was erased" in told
    assert "by root" in told
    # The mails wait for notify, which reads the event; here nobody does.
    left = person.Person(app.extensions["custsvc"].settings, store, [ann, inside])
    held = {place.name: left.held(place.name).personal for place in PLACES if place.given}
    assert {name for name, count in held.items() if count} == {"mails"}
    for each in (ann, inside):
        store.ledger.forget(each, 99)
    assert left.held("mails").personal == 0
    assert left.held("history").rows > 0
    assert [record.action for record in caplog.records] == ["erased_by_hand"]  # type: ignore[attr-defined]
    assert "canary" not in b"".join(bundle_of(root, ann).values()).decode().replace("canary-rule", "")
