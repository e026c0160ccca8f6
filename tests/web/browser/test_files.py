"""Files in a browser: imported as their plan was shown, corrected, undone, and exported."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.transfer.styles import DATA, PEOPLE, STYLES

from ..site import Site, shoot


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


# A text and no text, as a browser sends them; tests/web/test_importing.py has all, and the long run too.
WALKED = ("excel_french.txt", "workbook.xlsx")


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
