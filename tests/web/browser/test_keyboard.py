"""The pages by the keyboard alone: the Tab key reaches everything, each stop is seen, and none is a trap."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page, expect

from ..site import Site, toast
from .pages import every_page, uploaded

# Stops within a date and time: seven parts and the calendar.
_PARTS = 8
# What the Tab key should reach: all that can be used and is shown.
_REACHABLE = """
() => {
  const usable = 'a[href],button,input,select,textarea,summary,[tabindex]';
  const shown = each => each.checkVisibility({visibilityProperty: true}) && each.getClientRects().length
    && !each.closest('[inert]') && each.tabIndex >= 0 && !each.disabled;
  const radios = new Set();
  window.stops = [...document.querySelectorAll(usable)].filter(shown).filter(each => {
    if (each.type !== 'radio') return true;
    const group = each.name;
    if (radios.has(group)) return false;
    radios.add(group);
    return true;
  });
  document.activeElement.blur();
  return window.stops.length;
}
"""
_HERE = """
() => {
  const each = document.activeElement;
  if (each === document.body || !each) return null;
  const style = getComputedStyle(each), box = each.getBoundingClientRect();
  const name = each.outerHTML.slice(0, 120);
  const outlined = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0;
  const x = Math.min(Math.max(box.left + box.width / 2, 0), innerWidth - 1);
  const y = Math.min(Math.max(box.top + box.height / 2, 0), innerHeight - 1);
  const top = document.elementFromPoint(x, y);
  const label = each.labels && [...each.labels].some(label => label.contains(top));
  return {
    name, outlined,    number: window.stops.indexOf(each.type === 'radio' ? window.stops.find(
      other => other.type === 'radio' && other.name === each.name) : each),
    inside: box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
    covered: top && (each.contains(top) || top.contains(each) || label) ? '' : top.outerHTML.slice(0, 80),
  };
}
"""


def stops_of(page: Page) -> list[dict[str, Any]]:
    """Where the Tab key stops, from the beginning of the page to its end."""
    expected = page.evaluate(_REACHABLE)
    found: list[dict[str, Any]] = []
    within = 0
    while len(found) <= expected:
        page.keyboard.press("Tab")
        here = page.evaluate(_HERE)
        if here is None:
            break
        if found and here["number"] == found[-1]["number"] and within < _PARTS:
            within += 1  # a date: a stop for each of its parts, and one for the calendar
            continue
        within = 0
        found.append(here)
    return found


def test_the_tab_key_reaches_everything_and_each_stop_is_seen(page: Page, site: Site) -> None:
    wrong: dict[str, list[str]] = {}
    for path in [*every_page(site), *uploaded(page)]:
        page.goto(path)
        stops = stops_of(page)
        said = [f"not seen: {each['name']}" for each in stops if not each["outlined"]]
        said += [f"outside: {each['name']}" for each in stops if not each["inside"]]
        said += [f"covered: {each['name']} by {each['covered']}" for each in stops if each["covered"]]
        reached = {each["number"] for each in stops}
        names = page.evaluate("window.stops.map(each => each.outerHTML.slice(0, 120))")
        said += [f"not reached: {name}" for number, name in enumerate(names) if number not in reached]
        if said:
            wrong[path] = said

    assert wrong == {}


def test_undo_is_reached_before_its_message_is_hidden(page: Page, site: Site) -> None:
    customer = site.create("Gone Byhand")
    page.goto(f"/ui/customers/{customer['id']}")
    page.get_by_role("button", name="Delete").focus()
    page.keyboard.press("Enter")
    expect(toast(page)).to_contain_text("Gone Byhand was deleted.")

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Undo")).to_be_focused()
    page.keyboard.press("Enter")

    expect(toast(page)).to_contain_text("Gone Byhand is back.")
