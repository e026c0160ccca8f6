"""The pages about the API: they work offline, under a strict policy, and explain every problem."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import custsvc.api
from custsvc.http.codes import CODES
from tests.sizes import on_one

from .conftest import Client

PAGES = ["/api/docs", "/problems/", *(f"/problems/{code}" for code in CODES)]
PACKAGE = Path(custsvc.api.__file__).parents[1]


@pytest.fixture
def backend() -> str:
    """Either: the pages know nothing of it."""
    return "postgres"


class Page(HTMLParser):
    """The files that a page loads, and its parts that a strict policy would refuse."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.inline: list[str] = []
        self._in = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._in = tag
        if tag in ("script", "img"):
            self.loads.append(given.get("src") or "")
        if tag == "link" and given.get("href") != "data:,":
            self.loads.append(given.get("href") or "")
        self.inline += [name for name in given if name == "style" or name.startswith("on")]

    def handle_data(self, data: str) -> None:
        if self._in in ("script", "style") and data.strip():
            self.inline.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._in = ""


@pytest.mark.parametrize("path", PAGES)
@on_one("postgres")
def test_a_page_loads_only_what_the_package_has_and_holds_nothing_inline(path: str, stranger: Client) -> None:
    answer = stranger.get(path, headers={"Accept": "text/html"})
    page = Page(answer.text)

    assert answer.status_code == 200
    assert answer.mimetype == "text/html"
    assert page.inline == []
    assert page.loads
    for each in page.loads:
        assert each.startswith("/api/docs/")
        assert stranger.get(each).status_code == 200


@pytest.mark.parametrize("path", ["/api/docs", "/problems/", "/problems/validation"])
@on_one("postgres")
def test_the_policy_of_a_page_lets_nothing_else_in(path: str, stranger: Client) -> None:
    headers = stranger.get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))

    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


def test_only_the_pages_own_files_are_served(stranger: Client) -> None:
    for name in ("../app.py", "..%2fapp.py", "LICENSE", "swagger/swagger-ui.css", "nothing"):
        assert stranger.get(f"/api/docs/{name}").status_code == 404
    assert stranger.get("/api/docs/swagger-ui-bundle.js").mimetype == "text/javascript"


def test_swagger_ui_is_there_with_its_licence() -> None:
    folder = PACKAGE / "api" / "static" / "swagger"

    assert "Apache License" in (folder / "LICENSE").read_text()
    assert (folder / "swagger-ui-bundle.js").stat().st_size > 1_000_000


@pytest.mark.parametrize("code", CODES)
@on_one("postgres")
def test_every_problem_has_a_page_with_its_cause_and_its_cure(code: str, stranger: Client) -> None:
    about = CODES[code]
    page = stranger.get(f"/problems/{code}", headers={"Accept": "text/html,*/*"})
    answer = stranger.get(f"/problems/{code}/", headers={"Accept": "application/json"})

    assert about.title in html.unescape(page.text)
    assert f"HTTP {about.status}" in page.text
    assert answer.json == {"code": code, **about._asdict()}
    assert len(about.cause) > 20
    assert len(about.cure) > 10


def test_every_problem_that_the_code_raises_has_its_page() -> None:
    raised = {
        code
        for path in PACKAGE.rglob("*.py")
        for code in re.findall(r'Problem\(\s*\d{3},\s*"([a-z-]+)"', path.read_text(encoding="utf-8"))
    }

    assert len(raised) > 10
    assert raised <= set(CODES)


def test_an_unknown_problem_is_a_problem(stranger: Client) -> None:
    answer = stranger.get("/problems/nothing")

    assert (answer.status_code, answer.json["code"]) == (404, "not-found")
