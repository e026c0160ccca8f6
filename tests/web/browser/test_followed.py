"""What became of a change, in a browser: live, by time, in the copy, in mails, and among what failed."""

from __future__ import annotations

import re
import socket
from contextlib import closing
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from custsvc.ports.ledger import Notification
from custsvc.stores import open_store
from tests.waiting import until

from ..site import Site, Watched, on_both, toast


def test_the_feed_shows_at_once_what_another_client_changes(page: Page, site: Site) -> None:
    page.goto("/ui/activity")
    expect(page.locator("[data-live]")).to_have_text("Live")

    customer = site.create("Live Person", email="live@example.org")
    first = page.locator("[data-feed] > li").first
    expect(first).to_contain_text("Live Person")
    expect(first.locator("ins")).to_contain_text(["Live Person", "live@example.org"])

    page.get_by_role("button", name="Pause").click()
    site.api("PATCH", f"/customers/{customer['id']}/", {"email": "life@example.org"})
    expect(page.locator("[data-live]")).to_have_text("Paused, 1 waiting")
    expect(page.get_by_text("life@example.org")).to_have_count(0)
    page.get_by_role("button", name="Go on").click()
    expect(first.locator("del")).to_have_text("live@example.org")
    expect(first.locator("ins")).to_have_text("life@example.org")
    page.get_by_label("Which changes").select_option("created")
    expect(page.locator('[data-feed] > li[data-op="updated"]:visible')).to_have_count(0)


@on_both
def test_a_change_is_followed_to_the_copy_and_to_the_mail(page: Page, site: Site) -> None:
    customer = site.create("Way Finder", email="way@example.org")
    page.goto(f"/ui/customers/{customer['id']}")

    expect(page.locator("#way")).to_contain_text(re.compile(r"partition \d, offset \d+"))
    expect(page.locator("#way .there")).to_have_count(3)

    def sent() -> bool:
        page.reload()
        return page.locator(".badge", has_text="sent").count() > 0

    until("the mail is sent", sent)
    page.goto("/ui/mailbox")
    page.get_by_role("link", name="Welcome, Way Finder").click()
    expect(page.frame_locator("iframe.mail").locator("body")).to_contain_text("Way Finder")
    assert page.locator("iframe.mail").get_attribute("sandbox") == ""


def test_the_pipeline_is_shown_and_the_copy_proved(page: Page, site: Site) -> None:
    site.create("Proof Person")
    page.goto("/ui/pipeline")

    for step in ("API", "Outbox", "Kafka", "copy", "Mail"):
        expect(page.locator("#picture")).to_contain_text(step)
    page.get_by_role("button", name="Compare now").or_(
        page.get_by_role("button", name="Compare again")
    ).click()
    expect(page.locator("#verify")).to_contain_text("all identical")
    expect(page.locator("#picture .is-bad")).to_have_count(0)
    expect(page.locator("#picture polyline")).to_have_count(5)
    until("nothing comes, which a rate says", lambda: page.get_by_text("idle").count() > 0)


def test_a_difference_that_the_proof_finds_is_counted_and_repaired_by_its_button(
    page: Page, site: Site
) -> None:
    made = site.create("Lost Copy")["id"]
    with open_store(site.settings(), site.settings().other_backend) as copy:
        until("it is in the copy", lambda: copy.contents.rows([made]))
        copy.contents.remove(copy.contents.rows([made]))

        page.goto("/ui/pipeline")
        page.get_by_role("button", name=re.compile("^Compare")).click()
        expect(page.locator("#verify tbody")).to_contain_text("is missing")
        waiting = page.locator("#needs li", has_text="differ in a copy").locator(".badge")
        page.reload()
        expect(waiting).to_have_text("1")
        page.get_by_role("button", name=f"Repair customer {made}").click()

        expect(page.locator("#verify")).to_contain_text("Repaired 1 customer")
        expect(page.get_by_role("button", name=re.compile("^Repair"))).to_have_count(0)
        assert copy.contents.rows([made])
        page.reload()
        expect(waiting).to_have_text("0")


def test_mails_that_failed_are_sent_again_or_let_go(page: Page, site: Site) -> None:
    with site.store() as store:
        for name in ("again", "let-go"):
            mail = Notification(
                f"web-{name}",
                f"event-{name}",
                None,
                1,
                "test",
                f"{name}@example.org",
                f"Mail {name}",
                "text",
                None,
            )
            store.ledger.add(
                [Notification(**{**_as_dict(mail), "state": "failed", "reason": "550 no such box"})]
            )
    page.goto("/ui/mails?state=failed")

    expect(page.get_by_text("550 no such box")).to_have_count(2)
    page.get_by_label("Choose Mail let-go").check()
    page.get_by_role("button", name="Let go").click()
    expect(toast(page)).to_contain_text("Gave up 1 mail.")
    page.get_by_label("Choose Mail again").check()
    page.get_by_role("button", name="Send again").click()
    expect(toast(page)).to_contain_text("1 mail will be sent again.")

    with site.store() as store:
        until("it is sent", lambda: store.ledger.find(["web-again"])[0].state == "sent")
        assert store.ledger.find(["web-let-go"])[0].state == "discarded"


def test_a_sent_mail_is_found_and_shown_and_loads_nothing(browser: Browser, site: Site) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as tracker:
        tracker.setblocking(False)
        _read_mails(browser, site, f"http://127.0.0.1:{tracker.getsockname()[1]}/x.png")
        with pytest.raises(BlockingIOError):
            tracker.accept()


def _read_mails(browser: Browser, site: Site, picture: str) -> None:
    """Find a mail whose HTML would load this picture and run a script, and look at it."""
    foreign = f'<p>Hello <b>Reader</b></p><img src="{picture}"><script>parent.x=1</script>'
    with site.store() as store:
        for name in ("Reader", "reader", "writer"):
            mail = Notification(
                f"shown-{name}", "e", None, 1, "shown", f"{name}@example.org", f"For {name}", "text", foreign
            )
            store.ledger.add([mail])
        until("they are sent", lambda: len(store.ledger.recent(state="sent", rule="shown")) == 3)
    with closing(Watched(browser, site.url)) as watched:
        page = watched.page("/ui/mails")
        page.get_by_label("To", exact=True).fill("read")
        page.get_by_label("Rule").fill("shown")
        page.get_by_label("From (UTC)").fill("2020-01-01")
        page.get_by_role("button", name="Search").click()
        expect(page.locator("tbody tr")).to_have_count(1)
        page.get_by_role("link", name=re.compile("^Sent")).click()
        page.get_by_role("link", name="For reader").click()

        expect(page.frame_locator("iframe.mail").locator("b")).to_have_text("Reader")
        expect(page.locator("pre")).to_have_text("text")
        headers = page.locator("section", has_text="Headers").locator("dd")
        expect(headers.nth(1)).to_have_text("reader@example.org")
        expect(page.locator(".timeline li")).to_have_count(1)
        assert page.evaluate("window.x") is None
        assert page.locator("iframe.mail").get_attribute("sandbox") == ""
        assert any("Content Security Policy" in each for each in watched.wrong)
        page.goto("/ui/mails?rule=shown&until=2020-01-01")
        expect(page.get_by_role("heading", name="No mails found")).to_be_visible()


def _as_dict(mail: Notification) -> dict[str, Any]:
    return {name: getattr(mail, name) for name in Notification.__dataclass_fields__}


def test_a_record_that_nobody_could_read_is_shown_and_given_up(page: Page, site: Site) -> None:
    from custsvc.kafka.publisher import Publisher, Record

    with Publisher(site.settings()) as publisher:
        publisher.send(site.env["CUSTSVC_TOPIC_UPDATES"], [Record(b"1", b"<b>no JSON</b>", [])])

    row = page.get_by_role("row").filter(has_text="<b>no JSON</b>")

    def is_dead_lettered() -> bool:
        page.goto("/ui/dead-letters")
        return row.get_by_text("What it holds").count() > 0

    until("the record is dead-lettered", is_dead_lettered)
    row.get_by_text("What it holds").click()
    expect(row.locator("pre")).to_have_text("<b>no JSON</b>")
    expect(row.get_by_role("link", name="Events of this customer")).to_have_attribute(
        "href", "/ui/events?customer=1"
    )
    row.get_by_label("Choose the record of").check()
    page.get_by_role("button", name="Give up").click()
    expect(toast(page)).to_contain_text("Gave up 1 record.")
    expect(row).to_have_count(0)
    page.get_by_role("link", name="All", exact=True).click()
    expect(row).to_contain_text("discarded by anonymous")


def test_events_are_found_by_customer_and_by_time(page: Page, site: Site) -> None:
    made = site.create("Event Finder", phone="+49 30 1")
    site.api("PATCH", f"/customers/{made['id']}/", {"phone": "+49 30 2"})
    page.goto(f"/ui/customers/{made['id']}")
    page.get_by_role("link", name="By time, as events").click()
    expect(page.locator(".feed > li")).to_have_count(2)
    expect(page.locator(".feed > li").first.locator("del")).to_have_text("+49 30 1")
    expect(page.locator(".feed > li").first.locator("ins")).to_have_text("+49 30 2")
    page.goto(f"/ui/events?customer={made['id']}&until=2020-01-01T00:00")
    expect(page.get_by_role("heading", name="No events found")).to_be_visible()

    first = site.create("In Time 0")
    ids = {first["id"], *(site.create(f"In Time {number}")["id"] for number in range(1, 60))}
    page.goto("/ui/events")
    page.get_by_label("From").fill(first["created_on"][:19])
    page.get_by_role("button", name="Show").click()

    def seen() -> list[str]:
        """The customers on all pages of this time."""
        path: str | None = page.url.partition("&older")[0]
        found = []
        while path:
            page.goto(path)
            found += page.locator(".feed .event-head a:first-of-type").all_inner_texts()
            older = page.locator("a[rel=next]")
            path = older.get_attribute("href") if older.count() else None
        return [name for name in found if name.startswith("In Time")]

    names = until("all of them came", lambda: len(found := seen()) >= len(ids) and found)
    assert sorted(names) == sorted(f"In Time {number}" for number in range(60))
    page.goto("/ui/events?from=yesterday&customer=x")
    expect(page.get_by_role("alert")).to_contain_text("yesterday is not a time")
