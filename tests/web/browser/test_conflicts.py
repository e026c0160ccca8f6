"""Two customers that are one, and two people at one customer, in a browser: nothing typed is lost."""

from __future__ import annotations

import json
import re
from contextlib import closing

from playwright.sync_api import Browser, Page, expect

from ..hard import HARD
from ..site import Site, Watched, shoot, toast


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
