"""Customers in a browser: added, listed, changed by one or by many, deleted, and brought back."""

from __future__ import annotations

import re
import zipfile
from contextlib import closing

from playwright.sync_api import Browser, Page, expect

from tests.waiting import until

from ..site import Site, Watched, on_both, toast


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
    page.get_by_role("searchbox").press("End")
    page.get_by_role("searchbox").press_sequentially(" v")
    # What was typed comes into the address with the new list, which would close an open menu.
    expect(page).to_have_url(re.compile(r"q=viewed(\+|%20)v"))
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
