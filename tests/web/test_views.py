"""Columns of the list and saved views, asked without a browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from custsvc.ports.accounts import Role, User
from custsvc.ports.store import Store
from custsvc.web.views import QUERY_MAX

from .conftest import Visitor, words


@pytest.fixture
def visit(app: Flask, make_user: Callable[..., User]) -> Callable[..., Visitor]:
    def visit(name: str, role: Role = "write") -> Visitor:
        make_user(name, role)
        visitor = Visitor(app)
        assert visitor.sign_in(name).status_code == 303
        visitor.get("/ui/customers")
        return visitor

    return visit


@pytest.fixture
def ann(visit: Callable[..., Visitor]) -> Visitor:
    ann = visit("ann")
    for name, tier in (("Ada", "gold"), ("Bob", "tin")):
        ann.post("/ui/customers/new", name=name, meta_key="tier", meta_value=tier, meta_kind="text")
    return ann


def save(visitor: Visitor, name: str, query: str, **fields: Any) -> str:
    """Save a view; gives its link, or "" if it was refused."""
    answer = visitor.post("/ui/views", name=name, query=query, **fields)
    assert answer.status_code == 303
    found = re.search(r"view=([\w-]+)", answer.location)
    return f"/ui/views/{found[1]}" if found else ""


def names(page: Any) -> list[str]:
    return re.findall(r'<a href="/ui/customers/\d+">([^<]+)<', page.text)


def test_the_link_of_a_shared_view_opens_the_same_list_for_others(
    ann: Visitor, visit: Callable[..., Visitor]
) -> None:
    query = "key=tier&value=gold&sort=name&columns=metadata.tier,version&rows=compact&cursor=x&evil=1"
    link, own = save(ann, "Gold  tier", query, shared="1"), save(ann, "Only mine", "q=bob")

    bob = visit("bob", "read")
    opened = bob.get(link, follow_redirects=True)
    assert names(opened) == ["Ada"]
    assert "View: Gold tier" in words(opened)
    assert 'class="stack list compact"' in opened.text
    assert "evil" not in opened.text
    assert bob.get(own).status_code == 404
    assert "Only mine" not in bob.get("/ui/customers").text
    assert "Gold tier by ann" in words(bob.get("/ui/customers"))

    assert bob.post(link, name="Stolen").status_code == 403
    assert bob.post(f"{link}/delete").status_code == 403
    mine = save(bob, "Gold tier", "q=ada", shared="1")
    assert ann.get(mine).status_code == 404, "one who only reads shares nothing"


def test_a_view_is_changed_renamed_and_deleted_and_its_link_stays(ann: Visitor) -> None:
    link = save(ann, "Some", "q=ada")

    changed = ann.post(link, query="q=bob&columns=phone&rows=roomy")
    assert names(ann.get(changed.location)) == ["Bob"]
    ann.post(link, name="Others")
    assert "View: Others" in words(ann.get(link, follow_redirects=True))

    ann.post(f"{link}/delete")
    page = ann.get("/ui/views")
    assert ann.get(link).status_code == 404
    undo = dict(
        re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.text.split("data-toast")[1])
    )
    ann.post("/ui/views", **{name: value.replace("&amp;", "&") for name, value in undo.items()})
    assert names(ann.get(link, follow_redirects=True)) == ["Bob"]
    assert save(ann, "Foreign", "", id="chosen-by-me") != "/ui/views/chosen-by-me"


@pytest.mark.parametrize(
    ("name", "query", "why"),
    [
        ("", "q=a", "needs a name"),
        ("x" * 61, "q=a", "at most 60"),
        ("two\u202elines", "q=a", "visible characters"),
        ("Long", "q=" + "a" * QUERY_MAX, "2,000 characters"),
        ("Taken", "q=a", "“Taken”"),
    ],
)
def test_a_view_that_cannot_be_saved_is_refused_in_words(
    ann: Visitor, name: str, query: str, why: str
) -> None:
    save(ann, "Taken", "q=b")

    assert save(ann, name, query) == ""
    assert why in words(ann.get("/ui/customers"))


def test_a_view_whose_list_is_no_longer_valid_says_so(ann: Visitor, store: Store) -> None:
    for name, query in (
        ("Time", "updated__gte=someday&columns=phone"),
        ("Sort", "sort=shoe_size"),
        ("Columns", "columns=shoe_size,metadata.tier&q=ada"),
    ):
        page = ann.get(save(ann, name, query), follow_redirects=True)
        assert page.status_code == 200
        if name == "Columns":
            assert "there is no such column or there are too many: shoe_size" in words(page)
            assert names(page) == ["Ada"]
        else:
            assert f"The view “{name}” cannot be shown as it was saved. The filter was left out" in words(
                page
            )
            assert names(page) == ["Bob", "Ada"]
    gone = words(ann.get("/ui/customers?view=gone"))
    assert "The view that this list came from was deleted" in gone


def test_columns_are_in_the_address_and_remembered_by_the_browser(ann: Visitor, visit: Any) -> None:
    back = "/ui/customers?q=ada&view=x"
    query = {"back": back, "column": ["version", "created_on"], "key": "a,b", "compact": "1"}
    chosen = ann.get("/ui/customers/columns", query_string=query)
    assert chosen.location == (
        "/ui/customers?q=ada&view=x&columns=version%2Ccreated_on%2Cmetadata.a%252Cb&rows=compact"
    )

    def headings(page: Any) -> list[str]:
        return [
            " ".join(re.sub("<[^>]*>", "", each).split())
            for each in re.findall(r"<th scope=\"col\".*?</th>", page.text, re.S)
        ]

    expected = ["Name", "Version", "Added", "a,b"]
    assert headings(ann.get(chosen.location)) == expected
    assert headings(ann.get("/ui/customers")) == expected
    assert headings(ann.get("/ui/customers?columns=name")) == ["Name"]
    assert headings(visit("bob").get("/ui/customers")) == ["Name", "E-mail", "Phone", "Changed ↓"]
    lines = ann.get("/ui/customers/export?format=columns&columns=metadata.tier&q=ada").text.split()
    assert lines[0] == "id,name,metadata.tier"
    assert lines[1].endswith(",Ada,gold")


@pytest.mark.parametrize(
    "hostile", ["%ff", ",,,", "metadata.", "metadata." + "k" * 50, "a" * 5000, "%2527%3Cb%3E"]
)
def test_no_column_breaks_the_list(ann: Visitor, hostile: str) -> None:
    page = ann.get(f"/ui/customers?columns={hostile}&rows={hostile}&view={hostile}")
    assert page.status_code == 200
    assert names(page) == ["Bob", "Ada"]
    assert "<b>" not in page.text.split("<main")[1].split("data-toast")[0].replace("<b>Sh", "")
    ann.client.set_cookie("custsvc_list", f"columns={hostile[:2000]}", path="/ui/customers")
    assert ann.get("/ui/customers").status_code == 200
