"""The addresses of every page, of a site that has something to show on each."""

from __future__ import annotations

import json
import time
from dataclasses import replace

from playwright.sync_api import Page, expect

from custsvc.ports.endpoints import Endpoint
from custsvc.ports.ledger import Notification
from tests.waiting import until

from ..site import Site


def every_page(site: Site) -> list[str]:
    customer = site.create("Every Page", email="every@example.org", metadata={"tier": "gold"})
    site.api("PATCH", f"/customers/{customer['id']}/", {"phone": "+49 30 5"})
    path = f"/ui/customers/{customer['id']}"
    other = site.create("Every Page", email="every@example.org", metadata={"tier": "tin"})
    lists = [
        "/ui/customers",
        "/ui/customers?q=nobodyatall",
        "/ui/customers?state=trash",
        "/ui/customers?updated__gte=never",
        "/ui/customers?columns=email,metadata.tier,created_on,version&rows=compact",
        "/ui/views",
        "/ui/duplicates",
        "/ui/duplicates?state=dismissed",
    ]
    whole, part = (site.create(name)["id"] for name in ("Every Whole", "Every Part"))
    site.api("POST", f"/customers/{whole}/merge", {"from": [part]})
    one = [f"/ui/customers/{whole}", f"/ui/customers/{part}"]
    one += [path, f"{path}/edit", "/ui/customers/new", "/ui/customers/999999"]
    one += [f"{path}/data", f"{path}/merge?q=every", f"{path}/merge?from={other['id']}"]
    return [
        *lists,
        *one,
        "/ui/activity",
        "/ui/events",
        f"/ui/events?customer={customer['id']}",
        "/ui/pipeline",
        "/ui/mails",
        "/ui/mails?state=failed",
        f"/ui/mails/one/{mail_of(site, customer['id'])}",
        "/ui/mailbox",
        "/ui/dead-letters",
        "/ui/bulk?of=q%3Devery",
        *_changed_many(site),
        "/ui/admin/keys",
        "/ui/admin/users",
        "/ui/admin/suppressions",
        "/ui/admin/rules?rule=welcome&op=created",
        "/ui/admin/webhooks",
        f"/ui/admin/webhooks/one?id={endpoint_of(site)}",
    ]


def uploaded(page: Page) -> list[str]:
    """The pages of an import up to its plan, of a file with rows to add, to doubt and to correct."""
    rows = "Customer;E-mail;phone;segment\nEvery Row;row@example.org;4.42079E+11;gold\nEvery Wrong;nobody;;\n"
    page.goto("/ui/import")
    file = {"name": "every.csv", "mimeType": "text/csv", "buffer": rows.encode()}
    page.get_by_label("File").set_input_files(file)  # type: ignore[arg-type]
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("button", name="Show what would happen")).to_be_visible()
    mapping = page.url
    page.get_by_role("button", name="Show what would happen").click()
    expect(page.locator(".tiles")).to_be_visible()
    return ["/ui/import", "/ui/account", mapping, page.url]


def endpoint_of(site: Site) -> str:
    """A paused webhook endpoint with some deliveries."""
    with site.store() as store:
        if not (found := store.endpoints.all()):
            new = Endpoint("0123456789abcdef", "https://crm.example.com/" + "a" * 200, ("created",), "t")
            found = [store.endpoints.add(new, "whsec_AAAA")]
            store.endpoints.pause(new.id, "500 no", None)
            for n in range(1, 4):
                row = Notification(f"d{n}", f"e{n}", n, 1, "webhook", new.channel, "created", "{}", None)
                store.ledger.add([replace(row, channel=new.channel)])
        return found[0].id


def mail_of(site: Site, customer_id: int) -> str:
    """A mail about this customer."""
    with site.store() as store:
        until("a mail is made", lambda: store.ledger.recent(customer_id=customer_id))
        return store.ledger.recent(customer_id=customer_id)[0].id


def _changed_many(site: Site) -> list[str]:
    """The pages of one change to many customers: the preview, done, half done, and as a past import."""
    change = {"do": "edit", "field": "metadata.tier", "value": "gold"}
    fields = {"name": "Ada", "email": None, "phone": None, "metadata": {"tier": "tin"}}
    after = {**fields, "metadata": {"tier": "gold"}}
    counts = {"update": 1, "same": 2, "trashed": 1, "error": 1, "conflict": 1, "create": 0, "restore": 0}
    report = {
        "counts": {**counts, "delete": 0},
        "examples": [{"id": 1, "before": fields, "after": after}],
        "reasons": [["metadata", "must have at most 50 keys", 1]],
        "rows": [{"id": 1, "name": "Ada"}],
        "mails_by_rules": 3,
        "import": "x1",
    }
    about = {"id": "p1", "kind": "bulk-plan", "change": change, "choice": {"of": ""}, "result": report}
    job = {
        **about,
        "state": "done",
        "beat": time.time(),
        "of_plan": "p1",
        "import": "x1",
        "mails": True,
        "error": None,
    }
    with site.store() as store:
        for name, state in (("p1", "done"), ("d1", "done"), ("d2", "failed")):
            store.shelf.put(f"job.{name}", json.dumps({**job, "state": state}).encode(), 600)
        record = {"id": "x1", "by": "ann", "at": time.time(), "counts": counts, "what": "edit"}
        store.shelf.put("import.done.x1", json.dumps(record).encode(), 600)
    return ["/ui/bulk/p1", "/ui/bulk/p1/result/d1", "/ui/bulk/p1/result/d2", "/ui/imports/x1"]
