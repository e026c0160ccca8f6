"""What an admin does in a browser: keys, users, addresses, rules, and webhook endpoints."""

from __future__ import annotations

import re
from contextlib import closing

from playwright.sync_api import Page, expect
from standardwebhooks import Webhook

from tests.notify.receiver import Receiver
from tests.waiting import until

from ..site import Site, shoot, toast


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
