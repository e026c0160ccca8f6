"""The pages in a real browser, with the whole pipeline behind them; a few of them on both databases."""

from __future__ import annotations

import json
import os
import re
import socket
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from standardwebhooks import Webhook

from custsvc.ports.endpoints import Endpoint
from custsvc.ports.ledger import Notification
from custsvc.stores import open_store
from tests.notify.receiver import Receiver
from tests.transfer.styles import DATA, PEOPLE, STYLES
from tests.waiting import until

from .hard import HARD
from .site import DEADLINE, Site, Watched, chromium, launch

AXE = Path(__file__).parent / "vendor" / "axe-4.14.1.min.js"
expect.set_options(timeout=DEADLINE * 1000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if chromium() is None:
        if os.environ.get("CUSTSVC_TEST_REQUIRE"):
            pytest.fail("there is no Chromium, which the tests of the pages need: apt-get install chromium")
        pytest.skip("NOT CHECKED: there is no Chromium here; apt-get install chromium")
    with sync_playwright() as playwright, closing(launch(playwright)) as browser:
        yield browser


# The browser tests run on one database; the others in tests/web run on both.
@pytest.fixture(scope="module", params=["postgres", pytest.param("mongo", marks=pytest.mark.long)])
def site(
    request: pytest.FixtureRequest,
    servers: Any,
    all_databases: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    made = {name: all_databases(name).migrated() for name in ("postgres", "mongo")}
    addresses = {f"CUSTSVC_{name.upper()}_URL": url for name, url in made.items()}
    addresses["CUSTSVC_KAFKA"] = servers.url("kafka")
    site = Site(tmp_path_factory.mktemp("site"), request.param, addresses)
    try:
        with closing(site):
            yield site.start()
    finally:
        for name, url in made.items():
            all_databases(name).drop(url)


on_both = pytest.mark.parametrize("site", ["postgres", "mongo"], indirect=True, scope="module")


@pytest.fixture
def watched(browser: Browser, site: Site) -> Iterator[Watched]:
    """A browser window; at the end nothing may have gone wrong in it."""
    with closing(Watched(browser, site.url)) as watched:
        yield watched
        assert watched.wrong == []


@pytest.fixture
def page(watched: Watched) -> Page:
    return watched.page()


def toast(page: Page) -> Any:
    return page.locator("[data-toast]")


def shoot(page: Page, name: str) -> None:
    """Pictures for a person to look at, in the folder SHOTS: on a desktop, and on a phone in the dark."""
    if folder := os.environ.get("SHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)
        page.set_viewport_size({"width": 390, "height": 844})
        page.emulate_media(color_scheme="dark")
        page.screenshot(path=f"{folder}/{name}-phone-dark.png", full_page=True)
        page.set_viewport_size({"width": 1280, "height": 800})
        page.emulate_media(color_scheme="light")


def test_a_customer_is_added_with_what_is_wrong_shown_beside_its_field(page: Page) -> None:
    page.goto("/ui/customers")
    page.get_by_role("button", name="New customer").first.click()
    page.get_by_label("E-mail").fill("nobody")
    page.get_by_role("textbox", name="Key").fill("age")
    page.get_by_role("textbox", name="Value").fill("old")
    page.get_by_label("Kind of value").select_option("number")
    page.get_by_role("button", name="Add customer").click()

    expect(page.get_by_role("alert")).to_be_focused()
    expect(page.get_by_text("must be a number")).to_be_visible()
    page.get_by_role("textbox", name="Value").fill("42")
    page.get_by_role("button", name="Add customer").click()
    expect(page.get_by_role("alert")).to_contain_text("2 things need to be corrected")
    expect(page.get_by_label("Name")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#d-email")).to_contain_text("is not an e-mail address")
    page.get_by_label("Name").fill("Ada Lovelace")
    page.get_by_label("E-mail").fill("ada@example.org")
    page.get_by_role("button", name="Add customer").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Ada Lovelace")
    expect(toast(page)).to_contain_text("Ada Lovelace was added.")
    # The first of them: the mail to her brings some of its own once it is on its way.
    expect(page.locator(".facts").first).to_contain_text("42")


def test_deleting_can_be_undone_and_the_trash_restores(page: Page, site: Site) -> None:
    customer = site.create("Delia Derbyshire")
    page.goto(f"/ui/customers/{customer['id']}")

    page.get_by_role("button", name="Delete").click()
    expect(toast(page)).to_contain_text("Delia Derbyshire was deleted.")
    page.get_by_role("button", name="Undo").click()
    expect(toast(page)).to_contain_text("Delia Derbyshire is back.")

    page.get_by_role("button", name="Delete").click()
    page.get_by_role("link", name="Trash").click()
    page.get_by_role("link", name="Delia Derbyshire").click()
    page.get_by_role("button", name="Restore").click()
    expect(page.get_by_role("button", name="Edit")).to_be_visible()
    assert site.api("GET", f"/customers/{customer['id']}/")["version"] == 5


@on_both
def test_the_list_searches_as_one_types_and_its_address_can_be_shared(
    page: Page, watched: Watched, site: Site
) -> None:
    for name in ("Zelda Quux", "Zacharias Quux", "Yves Quux"):
        site.create(name, metadata={"tier": "gold" if name.startswith("Z") else "tin"})
    page.goto("/ui/customers")

    page.keyboard.press("/")
    page.keyboard.type("quux z")
    expect(page.get_by_role("row")).to_have_count(3)
    expect(page).to_have_url(re.compile(r"\?q=quux\+?(%20)?z$"))

    other = watched.page(page.url)
    expect(other.get_by_role("link", name="Zelda Quux")).to_be_visible()
    expect(other.get_by_role("link", name="Yves Quux")).to_have_count(0)
    other.get_by_role("columnheader", name="Name").get_by_role("link").click()
    expect(other.locator("tbody tr").first).to_contain_text("Zacharias")
    other.goto("/ui/customers?q=quux")
    other.get_by_role("button", name="Filters").click()
    other.get_by_label("Metadata key").fill("tier")
    other.get_by_label("is", exact=True).fill("tin")
    other.get_by_role("button", name="Apply").click()
    expect(other.locator("tbody tr")).to_have_count(1)
    expect(other).to_have_url(re.compile(r"\?q=quux&key=tier&value=tin$"))
    # A time of day, which only an address has, is kept as well.
    other.goto("/ui/customers?updated__lt=2000-01-01T12:30:00Z")
    other.get_by_label("Search").fill("quux")
    expect(other).to_have_url(re.compile(r"q=quux&.*updated__lt=2000-01-01T12%3A30%3A00Z"))
    expect(other.get_by_role("link", name="Quux")).to_have_count(0)


@on_both
def test_a_list_with_its_columns_is_saved_shared_and_changed(
    browser: Browser, page: Page, site: Site
) -> None:
    for name, tier in (("Vera Viewed", "gold"), ("Victor Viewed", "tin")):
        site.create(name, phone="+49 30 8", metadata={"tier": tier, "note": "long " * 60})
    page.goto("/ui/customers?q=viewed&sort=name")
    page.get_by_role("button", name="Columns").click()
    page.get_by_label("E-mail", exact=True).uncheck()
    page.get_by_label("tier", exact=True).check()
    page.get_by_label("Compact rows").check()
    page.get_by_role("button", name="Show these").click()
    expect(page.get_by_role("columnheader")).to_have_text(["Choose", "Name ↑", "Phone", "Changed", "tier"])
    page.get_by_role("searchbox").press_sequentially(" v")
    expect(page).to_have_url(re.compile("q=viewed"))
    page.get_by_role("button", name="Views").click()
    page.get_by_label("Save this list as").fill("Viewed people")
    page.get_by_label("Share it").check()
    page.get_by_role("button", name="Save the view").click()
    expect(toast(page)).to_contain_text("Saved the view “Viewed people”.")
    link = page.get_by_role("link", name="Its link").get_attribute("href")

    with closing(Watched(browser, site.url)) as other:
        theirs = other.page(link or "")
        expect(theirs.locator("tbody tr")).to_have_count(2)
        expect(theirs.get_by_role("columnheader", name="tier")).to_be_visible()
        expect(theirs.locator("table")).to_have_class(re.compile("compact"))
        assert other.wrong == []
    page.get_by_role("searchbox").fill("victor")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("button", name="View: Viewed people *").click()
    page.get_by_role("button", name="Save changes").click()
    expect(page.get_by_role("button", name="View: Viewed people", exact=True)).to_be_visible()
    page.goto("/ui/customers")
    expect(page.get_by_role("columnheader", name="tier")).to_be_visible()
    page.get_by_role("button", name="Views").click()
    page.get_by_role("link", name="Viewed people").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.goto("/ui/views")
    page.get_by_role("button", name="Delete Viewed people").click()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("button", name="View: Viewed people")).to_be_visible()


def test_pages_lead_on_and_back(page: Page, site: Site) -> None:
    for number in range(5):
        site.create(f"Paging Person {number}")

    names = [f"Paging Person {number}" for number in range(5)]
    shown = page.locator("tbody th a")

    page.goto("/ui/customers?q=paging&sort=name&limit=2")
    expect(shown).to_have_text(names[:2])
    page.get_by_role("button", name="Next").click()
    expect(shown).to_have_text(names[2:4])
    page.get_by_role("button", name="Next").click()
    expect(shown).to_have_text(names[4:])
    page.get_by_role("button", name="Previous").click()
    expect(shown).to_have_text(names[2:4])


def test_many_are_deleted_at_once_and_undone_at_once(page: Page, site: Site) -> None:
    for number in range(3):
        site.create(f"Bulky Person {number}")
    page.goto("/ui/customers?q=bulky")

    expect(page.locator("[data-bulk]")).to_be_hidden()
    page.get_by_label("Choose all on this page").check()
    expect(page.locator("[data-count]")).to_have_text("3 chosen")
    page.get_by_label("Choose Bulky Person 1").uncheck()
    page.locator("[data-bulk]").get_by_role("button", name="Delete").click()
    expect(toast(page)).to_contain_text("Deleted 2 customers.")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("button", name="Undo").click()

    expect(toast(page)).to_contain_text("Restored 2 customers.")
    expect(page.locator("tbody tr")).to_have_count(3)


@on_both
def test_all_that_match_are_edited_after_a_preview_and_undone(page: Page, site: Site) -> None:
    made = [site.create(f"Many Person {number}", metadata={"tier": "tin"}) for number in range(12)]
    page.goto("/ui/customers?q=many&limit=5&sort=name")
    page.get_by_label("Choose all on this page").check()
    expect(page.locator("[data-count]")).to_have_text("5 chosen")
    page.get_by_label("All 12 that match").check()
    expect(page.locator("[data-count]")).to_have_text("All chosen")
    page.get_by_label("Choose Many Person 1", exact=True).uncheck()
    expect(page.get_by_label("All 12 that match")).not_to_be_checked()
    page.get_by_label("All 12 that match").check()
    page.locator("[data-bulk]").get_by_role("button", name="Edit").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Edit 12 customers")
    expect(page.get_by_label("Key of the metadata")).to_be_hidden()
    page.get_by_label("Field").select_option("metadata")
    page.get_by_label("Key of the metadata").fill("tier")
    page.get_by_label("New value").fill("gold")
    page.get_by_role("button", name="Show what would happen").click()
    expect(page.locator(".tiles")).to_contain_text(re.compile(r"12\s*to change"))
    expect(page.locator("del")).to_have_text(["tin"] * 5)
    expect(page.locator("ins")).to_have_text(["gold"] * 5)
    site.api("PATCH", f"/customers/{made[3]['id']}/", {"phone": "+49 30 9"})
    page.get_by_role("button", name="Change 12 customers").click()

    expect(page.locator(".tiles")).to_contain_text(re.compile(r"11\s*changed.*1\s*left out", re.DOTALL))
    expect(page.get_by_role("link", name="Many Person 3")).to_be_visible()
    assert site.api("GET", "/customers/?q=many&metadata.tier=gold")["count"] == 11
    page.get_by_role("button", name="Undo …").click()
    page.get_by_role("button", name="Undo this bulk edit").click()
    expect(page.locator(".tiles")).to_contain_text(re.compile(r"11\s*changed back"))
    assert site.api("GET", "/customers/?q=many&metadata.tier=tin")["count"] == 12


@on_both
def test_changes_are_in_the_timeline_and_are_undone(page: Page, site: Site) -> None:
    customer = site.create("Grace Hoper", metadata={"rank": "captain"})
    page.goto(f"/ui/customers/{customer['id']}")
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("Name").fill("Grace Hopper")
    page.get_by_role("textbox", name="Value").fill("admiral")
    page.get_by_role("button", name="Save").click()

    newest = page.locator(".timeline > li").first
    expect(newest.locator("del")).to_have_text(["Grace Hoper", "captain"])
    expect(newest.locator("ins")).to_have_text(["Grace Hopper", "admiral"])
    expect(newest.locator("time")).to_have_attribute("title", re.compile(r"\d{4}, \d\d:\d\d:\d\d UTC"))
    page.get_by_role("button", name="Go back to version 1").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Grace Hoper")
    page.get_by_role("button", name="Undo").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Grace Hopper")
    expect(page.locator(".timeline > li")).to_have_count(4)


def test_two_customers_become_one_and_two_again(page: Page, site: Site) -> None:
    one = site.create("Mary Somerville", email="mary@example.org", metadata={"tier": "gold"})
    two = site.create("M. Somerville", phone="+44 20 7946 0000", metadata={"tier": "tin"})
    page.goto(f"/ui/customers/{one['id']}")
    page.get_by_role("button", name="Merge").click()
    page.get_by_role("searchbox", name="Find them by name").fill("somerville")
    page.get_by_role("button", name="Search").click()
    page.get_by_label(re.compile("^M. Somerville")).check()
    page.get_by_role("button", name="Compare").click()

    phone = page.get_by_role("group", name="Phone")
    expect(phone.get_by_role("radio", checked=True)).to_have_value(str(two["id"]))
    page.get_by_role("group", name="Name").get_by_label(re.compile("M. Somerville")).check()
    page.get_by_role("button", name="Preview").click()
    preview = page.get_by_role("region", name=f"#{one['id']} will be")
    expect(preview).to_contain_text("M. Somerville")
    expect(preview).to_contain_text("+44 20 7946 0000")
    shoot(page, "merge")
    page.get_by_role("button", name="Merge 2 customers").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("M. Somerville")
    expect(page.locator(".timeline > li").first).to_contain_text(f"#{two['id']} became part of it")
    shoot(page, "merged")
    page.get_by_role("link", name=f"#{two['id']}").click()
    expect(page.get_by_text("It was merged into")).to_be_visible()
    page.get_by_role("link", name=f"customer #{one['id']}").click()
    page.get_by_role("button", name="Undo this merge").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Mary Somerville")
    assert site.api("GET", f"/customers/{two['id']}/")["phone"] == two["phone"]


def test_a_duplicate_customer_is_noticed_and_a_pair_is_judged(page: Page, site: Site) -> None:
    one = site.create("Sophie Germain", email="sophie@example.org")
    page.goto("/ui/customers/new")
    page.get_by_label("Name").fill("Sophie Germain")
    page.get_by_label("E-mail").fill("SOPHIE@example.org")
    page.get_by_label("Phone").focus()
    expect(page.get_by_text("This customer may be there already")).to_be_visible()
    shoot(page, "likely")
    page.get_by_role("button", name="Add customer").click()
    expect(toast(page)).to_contain_text("Sophie Germain was added.")

    page.goto("/ui/duplicates")
    pair = page.get_by_role("region", name="Sophie Germain and Sophie Germain")
    expect(pair).to_contain_text("same email")
    shoot(page, "duplicates")
    pair.get_by_role("button", name="Not the same").click()
    expect(pair).to_have_count(0)
    toast(page).get_by_role("button", name="Undo").click()
    pair.get_by_role("button", name="Compare and merge").click()
    page.get_by_role("button", name="Merge 2 customers").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sophie Germain")
    assert site.api("GET", f"/customers/{one['id']}/")["version"] == 2


def test_edits_of_different_fields_by_two_people_are_merged(browser: Browser, page: Page, site: Site) -> None:
    customer = site.create("Two People", email="two@example.org")
    page.goto(f"/ui/customers/{customer['id']}/edit")
    with closing(Watched(browser, site.url)) as other:
        theirs = other.page(f"/ui/customers/{customer['id']}/edit")
        theirs.get_by_label("Phone").fill("+49 30 1")
        theirs.get_by_role("button", name="Save").click()
        expect(toast(theirs)).to_contain_text("Saved.")

    page.get_by_label("E-mail").fill("both@example.org")
    page.get_by_role("button", name="Save").click()

    expect(toast(page)).to_contain_text("together with what others changed: Phone")
    after = site.api("GET", f"/customers/{customer['id']}/")
    assert (after["email"], after["phone"], after["version"]) == ("both@example.org", "+49 30 1", 3)


def test_two_edits_of_one_field_are_a_conflict_to_choose_from(
    browser: Browser, page: Page, site: Site
) -> None:
    customer = site.create("One Field", email="old@example.org", metadata={"tier": "tin", "lang": "de"})
    page.goto(f"/ui/customers/{customer['id']}/edit")
    with closing(Watched(browser, site.url)) as other:
        theirs = other.page(f"/ui/customers/{customer['id']}/edit")
        theirs.get_by_label("E-mail").fill("theirs@example.org")
        theirs.get_by_role("textbox", name="Value").nth(1).fill("gold")
        theirs.get_by_role("button", name="Save").click()
        expect(toast(theirs)).to_contain_text("Saved.")

    page.get_by_label("E-mail").fill("mine@example.org")
    page.get_by_label("Phone").fill("+49 30 2")
    page.get_by_role("button", name="Save").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Changed at the same time")
    expect(page.locator("fieldset")).to_have_count(1)
    for value in ("old@example.org", "theirs@example.org", "mine@example.org"):
        expect(page.locator("fieldset")).to_contain_text(value)
    page.get_by_role("radio", name=re.compile("You typed")).check()
    page.get_by_role("button", name="Save the choices").click()
    expect(toast(page)).to_contain_text("Saved")
    after = site.api("GET", f"/customers/{customer['id']}/")
    assert (after["email"], after["phone"]) == ("mine@example.org", "+49 30 2")
    assert after["metadata"] == {"lang": "de", "tier": "gold"}


def test_typed_values_survive_when_somebody_deletes_the_customer(page: Page, site: Site) -> None:
    customer = site.create("Gone Meanwhile")
    page.goto(f"/ui/customers/{customer['id']}/edit")
    site.api("DELETE", f"/customers/{customer['id']}/")

    page.get_by_label("Phone").fill("+49 30 3")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("deleted this customer")
    expect(page.get_by_label("Phone")).to_have_value("+49 30 3")
    page.get_by_role("button", name="Restore and save").click()

    expect(toast(page)).to_contain_text("Saved.")
    after = site.api("GET", f"/customers/{customer['id']}/")
    assert (after["phone"], after["deleted"]) == ("+49 30 3", False)


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


def test_a_file_is_imported_as_its_plan_was_shown(page: Page, site: Site) -> None:
    known = site.create("Imported Known", email="known@example.org", phone="1")
    rows = [
        "Customer;E-mail;phone;segment",
        "Imported New;new@example.org;+49 30 6;retail",
        "Imported Known;known@example.org;+49 30 7;",
        "Imported Wrong;not an address;;",
        "=Imported Formula;formula@example.org;;",
    ]
    page.goto("/ui/import")
    file = {"name": "people.csv", "mimeType": "text/csv", "buffer": "\n".join(rows).encode()}
    page.get_by_label("File").set_input_files(file)  # type: ignore[arg-type]
    page.get_by_role("button", name="Go on").click()

    page.get_by_label("Customer", exact=True).select_option("name")
    page.get_by_label("E-mail", exact=True).select_option("email")
    page.get_by_role("button", name="Show what would happen").click()
    expect(page.locator(".tiles")).to_contain_text(re.compile(r"2\s*to add\s*1\s*to change"))
    expect(page.locator("tbody")).to_contain_text("is not an e-mail address")
    assert site.api("GET", f"/customers/{known['id']}/")["version"] == 1

    page.get_by_label("Leave out 1 row that is wrong").check()
    page.get_by_role("button", name="Do this: 3 changes").click()
    expect(page.locator(".alert-good")).to_contain_text("Done.")
    expect(page.locator(".tiles")).to_contain_text(re.compile(r"2\s*added\s*1\s*changed"))
    after = site.api("GET", f"/customers/{known['id']}/")
    assert (after["phone"], after["updated_by"]) == ("+49 30 7", "anonymous")
    new = site.api("GET", "/customers/?email=new@example.org")["results"][0]
    assert (new["name"], new["metadata"]) == ("Imported New", {"segment": "retail"})


WALKED = ("outlook.csv", "excel_french.txt", "numbers_mac.csv", "workbook.xlsx", "array.json", "contacts.vcf")


@pytest.mark.parametrize(
    "styles", [WALKED, pytest.param([*STYLES], marks=pytest.mark.long)], ids=["some", "all"]
)
def test_files_of_other_programs_are_imported_as_they_are_and_undone(
    page: Page, site: Site, styles: Sequence[str]
) -> None:
    with site.store() as store:
        known = bool(store.customers.get_by_emails([PEOPLE[0][1]]))
    for number, style in enumerate(styles, start=int(known)):
        did, undid = ("added", "deleted") if number == 0 else ("restored", "in the trash again")
        page.goto("/ui/import")
        page.get_by_label("File").set_input_files(DATA / style)
        page.get_by_role("button", name="Go on").click()
        page.get_by_label("Restore customers that are in the trash").check()
        page.get_by_role("button", name="Show what would happen").click()
        page.get_by_role("button", name="Do this: 3 changes").click()
        expect(page.locator(".tiles")).to_contain_text(re.compile(rf"3\s*{did}"))
        found = site.api("GET", "/customers/?q=555&sort=id")["results"]
        assert [(each["name"], each["email"], each["phone"]) for each in found] == PEOPLE, style

        page.get_by_role("button", name="Undo this import").click()
        page.get_by_role("button", name="Undo this import").click()
        expect(page.locator(".tiles")).to_contain_text(re.compile(rf"3\s*{undid}"))
        assert site.api("GET", "/customers/?q=555")["results"] == []


def test_rows_that_are_wrong_are_downloaded_corrected_and_imported(page: Page, site: Site) -> None:
    rows = [f"Big {n};{'nobody' if n % 4 == 0 else f'big{n}@example.org'}" for n in range(5000)]
    file = {"name": "big.csv", "mimeType": "text/csv", "buffer": "\n".join(["name;email", *rows]).encode()}
    page.goto("/ui/import")
    page.get_by_label("File").set_input_files(file)  # type: ignore[arg-type]
    page.get_by_role("button", name="Go on").click()
    page.get_by_role("button", name="Show what would happen").click()
    page.get_by_label("Leave out 1,250 rows that are wrong").check()
    expect(page.locator("tbody tr")).to_have_count(200)
    expect(page.locator("tbody")).to_contain_text("is not an e-mail address")
    page.get_by_role("button", name="Do this: 3,750 changes").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="1,250 rows to correct, as a file").click()
    text = Path(download.value.path()).read_text(encoding="utf-8-sig")
    shoot(page, "wrong")

    right = re.sub(r"Big (\d+);nobody", r"Big \1;big\1@example.org", text)
    page.goto("/ui/import")
    file = {"name": download.value.suggested_filename, "mimeType": "text/csv", "buffer": right.encode()}
    page.get_by_label("File").set_input_files(file)  # type: ignore[arg-type]
    page.get_by_role("button", name="Go on").click()
    page.get_by_role("button", name="Show what would happen").click()
    page.get_by_role("button", name="Do this: 1,250 changes").click()

    expect(page.locator(".alert-good")).to_contain_text("Done.")
    assert site.api("GET", "/customers/?name__startswith=Big&count=exact")["count"] == 5000


def test_a_plan_that_is_no_longer_true_is_not_applied(page: Page, site: Site) -> None:
    known = site.create("Plan Known", email="plan@example.org")
    page.goto("/ui/import")
    file = {"name": "p.csv", "mimeType": "text/csv", "buffer": b"name,email\nPlan Other,plan@example.org\n"}
    page.get_by_label("File").set_input_files(file)  # type: ignore[arg-type]
    page.get_by_role("button", name="Go on").click()
    page.get_by_role("button", name="Show what would happen").click()
    expect(page.get_by_role("button", name="Do this: 1 change")).to_be_visible()
    site.api("PATCH", f"/customers/{known['id']}/", {"phone": "1"})

    page.get_by_role("button", name="Do this").click()

    expect(page.get_by_role("alert")).to_contain_text("nothing was imported")
    assert site.api("GET", f"/customers/{known['id']}/")["name"] == "Plan Known"


def test_saving_a_form_unchanged_changes_nothing(page: Page, site: Site) -> None:
    made = site.create(
        "Hard to carry", email="j\u00f6rg@b\u00fccher.example", phone="+49 30 1", metadata=HARD
    )
    edit = f"/ui/customers/{made['id']}/edit"

    page.goto(edit)
    page.get_by_role("button", name="Save").click()
    expect(toast(page)).to_contain_text("Nothing was changed.")
    page.goto(edit)
    page.get_by_label("Phone").fill("+49 30 2")
    page.get_by_role("button", name="Save").click()
    expect(toast(page)).to_contain_text("Saved.")

    after = site.api("GET", f"/customers/{made['id']}/")
    assert json.dumps(after["metadata"]) == json.dumps(made["metadata"])
    assert (after["email"], after["phone"], after["version"]) == (made["email"], "+49 30 2", 2)


def test_a_form_sent_again_after_going_back_is_done_once(page: Page, site: Site) -> None:
    page.goto("/ui/import")
    file = {"name": "b.csv", "mimeType": "text/csv", "buffer": b"name\nBack One\nBack Two\n"}
    page.get_by_label("File").set_input_files(file)  # type: ignore[arg-type]
    page.get_by_role("button", name="Go on").click()
    page.get_by_role("button", name="Show what would happen").click()
    for _ in range(2):
        page.get_by_role("button", name="Do this: 2 changes").click()
        expect(page.locator(".tiles")).to_contain_text(re.compile(r"2\s*added"))
        page.go_back()

    assert site.api("GET", "/customers/?name__startswith=Back")["count"] == 2


def test_an_export_has_the_customers_and_columns_of_the_page(page: Page, site: Site) -> None:
    for name in ("Export =One", "Export Two"):
        site.create(name, phone="=1+1")
    page.goto("/ui/customers?q=export&sort=name")

    page.get_by_role("button", name="Export").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="As CSV, what is shown").click()
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()

    assert download.value.suggested_filename == "customers.csv"
    assert [line.split(",")[1] for line in lines] == ["name", "Export =One", "Export Two"]
    assert "'=1+1" in lines[1]


def test_a_record_that_nobody_could_read_is_shown_and_given_up(page: Page, site: Site) -> None:
    from custsvc.kafka.publisher import Publisher, Record

    with Publisher(site.settings()) as publisher:
        publisher.send(site.env["CUSTSVC_TOPIC_UPDATES"], [Record(b"1", b"<b>no JSON</b>", [])])

    def is_dead_lettered() -> bool:
        page.goto("/ui/dead-letters")
        return page.get_by_text("What it holds").count() > 0

    until("the record is dead-lettered", is_dead_lettered)
    page.get_by_text("What it holds").click()
    expect(page.locator("pre")).to_have_text("<b>no JSON</b>")
    expect(page.get_by_role("link", name="Events of this customer")).to_have_attribute(
        "href", "/ui/events?customer=1"
    )
    page.get_by_label("Choose the record of").check()
    page.get_by_role("button", name="Give up").click()
    expect(toast(page)).to_contain_text("Gave up 1 record.")
    expect(page.get_by_role("heading", name="Nothing here")).to_be_visible()
    page.get_by_role("link", name="All", exact=True).click()
    expect(page.locator("tbody")).to_contain_text("discarded by anonymous")


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


def test_an_admin_makes_keys_and_users_suppresses_addresses_and_previews_mails(
    page: Page, site: Site
) -> None:
    page.goto("/ui/customers")
    page.get_by_role("link", name="Admin").click()
    page.get_by_label("Name").fill("browser-key")
    page.get_by_label("Role").select_option("write")
    page.get_by_role("button", name="Create key").click()
    expect(page.locator("[data-secret]")).to_contain_text("csk_")
    page.reload()
    expect(page.locator("[data-secret]")).to_have_count(0)
    page.goto("/ui/admin/keys")
    page.get_by_role("button", name="Revoke browser-key").click()
    expect(toast(page)).to_contain_text("is revoked")

    page.get_by_role("link", name="Users").click()
    page.get_by_label("Name").fill("bea")
    page.get_by_role("button", name="Create user").click()
    expect(page.locator("[data-secret]")).to_have_text(re.compile(r"[\w-]{20}"))
    page.get_by_label("Role of bea", exact=True).select_option("admin")
    page.get_by_role("button", name="Change the role of bea").click()
    expect(toast(page)).to_contain_text("bea has the role admin.")
    page.get_by_role("button", name="Disable bea").click()
    expect(page.get_by_role("button", name="Enable bea")).to_be_visible()

    page.get_by_role("link", name="Suppressed addresses").click()
    page.get_by_role("textbox", name="Address", exact=True).fill("quiet@example.org")
    page.get_by_role("button", name="Suppress").click()
    page.get_by_role("button", name="Lift quiet@example.org").click()
    expect(toast(page)).to_contain_text("quiet@example.org gets mail again.")

    page.get_by_role("link", name="Rules of mails").click()
    page.get_by_label("Rule", exact=True).select_option("welcome")
    page.get_by_role("button", name="Preview").click()
    expect(page.frame_locator("iframe.mail").locator("body")).to_contain_text("Ada Lovelace")
    made = site.create("Preview Person", email="preview@example.org")
    page.get_by_label("or the last event of customer").fill(str(made["id"]))
    page.get_by_role("button", name="Preview").click()
    expect(page.frame_locator("iframe.mail").locator("body")).to_contain_text("Preview Person")


def test_a_webhook_endpoint_is_made_tried_paused_given_a_new_secret_and_deleted(
    page: Page, site: Site
) -> None:
    with closing(Receiver()) as receiver:

        def got(text: bytes) -> list[dict[str, str]]:
            """The headers of the calls whose body has this text, each checked against the newest secret."""
            calls = [(headers, body) for _, headers, body in list(receiver.got) if text in body]
            for headers, body in calls:
                Webhook(secret).verify(body, headers)
            return [headers for headers, _ in calls]

        page.goto("/ui/admin/webhooks")
        page.get_by_label("Address").fill(f"http://127.0.0.1:{receiver.port}/crm")
        page.get_by_label("Description").fill("Our CRM")
        page.get_by_role("button", name="Create endpoint").click()
        secret = page.locator("[data-secret]").inner_text()
        shoot(page, "webhooks")
        page.reload()
        expect(page.locator("[data-secret]")).to_have_count(0)
        page.get_by_role("link", name="Our CRM").click()
        page.get_by_role("button", name="Send a test").click()
        expect(toast(page)).to_contain_text("A test will be sent")
        until("the test arrives", lambda: got(b"webhook.test"))

        page.get_by_role("button", name="Pause").click()
        expect(toast(page)).to_contain_text("The endpoint is paused")
        made = site.create("Called Person")["id"]
        row = page.get_by_role("row", name=re.compile(f"customer #{made},"))
        until("it waits", lambda: page.reload() and row.get_by_text("Queued").count())
        assert not got(b"Called Person")
        page.get_by_role("button", name="Resume").click()
        until("it arrives", lambda: len(got(b"Called Person")) == 1)
        until("it is told", lambda: page.reload() and row.get_by_text("200").count())
        shoot(page, "webhook")
        row.get_by_role("button", name=re.compile("^Send again")).click()
        expect(toast(page)).to_contain_text("will be sent again")
        first, again = until("it arrives again", lambda: len(found := got(b"Called Person")) > 1 and found)
        assert first["webhook-id"] == again["webhook-id"]

        page.get_by_role("button", name="Replace the secret").click()
        expect(page.locator("[data-secret]")).not_to_have_text(secret)
        secret = page.locator("[data-secret]").inner_text()
        receiver.got.clear()
        page.get_by_role("button", name="Send a test").click()
        until("the next test arrives", lambda: got(b"webhook.test"))
        page.get_by_text("Delete this endpoint").click()
        page.get_by_role("button", name=re.compile("^Delete it")).click()
        expect(toast(page)).to_contain_text("The endpoint is deleted.")
        expect(page.get_by_role("link", name="Our CRM")).to_have_count(0)


def test_all_data_of_a_person_is_downloaded_and_erased(page: Page, site: Site) -> None:
    from custsvc.kafka.publisher import Publisher, Record

    made = site.create("Forget Me", email="forget@example.org")["id"]
    with Publisher(site.settings()) as publisher:
        publisher.send(site.env["CUSTSVC_TOPIC_UPDATES"], [Record(b"%d" % made, b"no event", [])])
    with site.store() as store:
        until("the mail is sent", lambda: store.ledger.recent(customer_id=made, state="sent"))
    page.goto(f"/ui/customers/{made}")
    page.get_by_role("button", name="All data").click()
    until(
        "the dead letter is counted",
        lambda: page.reload() and page.get_by_role("row", name=re.compile("Dead letters.* 1 ")).count(),
    )
    with page.expect_download() as download:
        page.get_by_role("button", name="Download all").click()
    with zipfile.ZipFile(download.value.path()) as bundle:
        found = {name: bundle.read(name).decode() for name in bundle.namelist()}
    assert download.value.suggested_filename == f"customer-{made}.zip"
    for name in ("customer", "history", "mails"):
        assert "Forget Me" in found[f"{name}.ndjson"], name
    assert "no event" in found["dead_letters.ndjson"]

    page.get_by_label(f"Type erase {made} to confirm").fill(f"erase {made}")
    page.get_by_role("button", name="Erase for good").click()
    expect(toast(page)).to_contain_text(f"Customer #{made} was erased.")
    expect(page.locator(".alert-good")).to_contain_text("Erased just now by anonymous")
    mails = page.get_by_role("row", name=re.compile("^Mails about it"))
    until("its mails are blanked", lambda: page.reload() and mails.get_by_text("none").count())
    expect(page.get_by_role("row", name=re.compile("^Its changes")).locator(".badge")).to_have_text("none")


XSS = (
    "<script>window.xss=1</script>",
    '"><img src=x onerror=window.xss=1>',
    "'-window.xss=1-'",
    "</title></textarea><svg onload=window.xss=1>",
    "{{7*7}}${7*7}<%= 7*7 %>",
    "javascript:window.xss=1",
)


def test_markup_in_any_field_stays_text_on_every_page(page: Page, site: Site) -> None:
    """S16."""
    ids = []
    for text in XSS:
        metadata = {re.sub(r"[.$]", "", text)[:40]: text}
        ids.append(site.create(f"Xss {text}", phone=text[:50], metadata=metadata)["id"])
    page.goto("/ui/activity")
    expect(page.locator("[data-live]")).to_have_text("Live")
    site.api("PATCH", f"/customers/{ids[0]}/", {"name": f"Xss again {XSS[1]}"})
    expect(page.locator("[data-feed]")).to_contain_text(f"Xss again {XSS[1]}")

    for path in (
        "/ui/activity",
        "/ui/customers?q=xss",
        f"/ui/customers?q={XSS[0]}",
        *(f"/ui/customers/{i}" for i in ids),
    ):
        page.goto(path)
        assert page.evaluate("window.xss") is None, path
        assert page.locator("main img, main [onerror], main [onload], main script").count() == 0, path
    for text, customer_id in zip(XSS, ids, strict=True):
        page.goto(f"/ui/customers/{customer_id}/edit")
        expect(page.get_by_role("textbox", name="Value")).to_have_value(text)
        assert page.evaluate("window.xss") is None


def test_the_basics_work_without_scripts(browser: Browser, site: Site) -> None:
    with closing(Watched(browser, site.url, java_script_enabled=False)) as watched:
        page = watched.page("/ui/customers/new")
        page.get_by_label("Name").fill("No Script")
        page.get_by_role("button", name="Add customer").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("No Script")
        page.get_by_role("button", name="Edit").click()
        page.get_by_label("Phone").fill("+49 30 4")
        page.get_by_role("button", name="Save").click()
        page.get_by_role("button", name="Delete").click()
        page.get_by_role("button", name="Undo").click()
        page.goto("/ui/customers")
        page.get_by_label("Search").fill("no script")
        page.get_by_role("button", name="Search").click()
        expect(page.locator("tbody tr")).to_have_count(1)
        page.get_by_label("Choose No Script").check()
        page.locator("[data-bulk]").get_by_role("button", name="Delete").click()
        expect(page.get_by_role("heading", name="No customers found")).to_be_visible()
        assert watched.wrong == []


def test_the_keyboard_is_enough(page: Page, site: Site) -> None:
    site.create("Keyboard Person")
    page.goto("/ui/customers?q=keyboard")

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Export").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="As CSV, what is shown")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Export")).to_be_focused()
    expect(page.get_by_role("link", name="As CSV, what is shown")).to_be_hidden()


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


def test_no_page_shuts_anybody_out(browser: Browser, site: Site) -> None:
    """In the light all rules of the checker; in the dark the one about colours, which alone can differ."""
    found: dict[tuple[str, str], list[str]] = {}
    source = AXE.read_text(encoding="utf-8")
    everything = "axe.run(document, {resultTypes: ['violations']})"
    colours = "axe.run(document, {resultTypes: ['violations'], runOnly: ['color-contrast']})"
    # The checker itself sets styles, which the policy would forbid.
    with closing(Watched(browser, site.url, bypass_csp=True)) as watched:
        page = watched.page()
        for path in [*every_page(site), *uploaded(page)]:
            page.goto(path)
            page.evaluate(source)
            for scheme, check in (("light", everything), ("dark", colours)):
                page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
                result = page.evaluate(check)
                serious = [v for v in result["violations"] if v["impact"] in ("serious", "critical")]
                if serious:
                    found[path, scheme] = [
                        f"{v['id']}: {[n['target'] for n in v['nodes']][:3]}" for v in serious
                    ]

    assert found == {}


def test_nothing_is_wider_than_a_phone(browser: Browser, site: Site) -> None:
    wide = []
    with closing(Watched(browser, site.url, viewport={"width": 390, "height": 844})) as watched:
        page = watched.page()
        for path in [*every_page(site), *uploaded(page)]:
            page.goto(path)
            if page.evaluate("document.documentElement.scrollWidth") > 390:
                wide.append(path)
        assert watched.wrong == []

    assert wide == []


def test_light_and_dark_are_chosen_and_kept(page: Page) -> None:
    page.goto("/ui/customers")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")

    page.get_by_role("button", name="Switch between light and dark").click()
    page.goto("/ui/pipeline")

    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
