"""What holds on every page: what is typed is no markup, and no screen, keyboard or browser shuts you out."""

from __future__ import annotations

import re
from contextlib import closing

from playwright.sync_api import Browser, Page, expect

from ..site import AXE, Site, Watched
from .pages import every_page, uploaded

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
