"""A whole custsvc behind a browser: the roles as processes on the tests' servers, and a real Chromium."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

from custsvc.config import Settings
from custsvc.local import LocalServers, ports
from custsvc.ports.store import Store
from custsvc.stores import open_store
from tests.waiting import until

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
# The first of them shows a page for half of what the others take, which draw a window around it.
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
DEADLINE = 60.0


AXE = Path(__file__).parent / "vendor" / "axe-4.14.1.min.js"
expect.set_options(timeout=DEADLINE * 1000)

on_both = pytest.mark.parametrize("site", ["postgres", "mongo"], indirect=True, scope="package")


@contextmanager
def browsing() -> Iterator[Browser]:
    """A Chromium of this machine. Skips the test where there is none."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        if os.environ.get("CUSTSVC_TEST_REQUIRE"):
            pytest.fail("there is no Chromium, which the tests of the pages need: apt-get install chromium")
        pytest.skip("NOT CHECKED: there is no Chromium here; apt-get install chromium")
    with (
        sync_playwright() as playwright,
        closing(playwright.chromium.launch(executable_path=found, args=list(FLAGS))) as browser,
    ):
        yield browser


def toast(page: Page) -> Locator:
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


class Site:
    """The roles of one installation. Its maker closes it."""

    def __init__(self, folder: Path, backend: str, addresses: dict[str, str]) -> None:
        port = ports.choose()
        self.url = f"http://127.0.0.1:{port}"
        self.backend = backend
        self._folder = folder
        self._stack = ExitStack()
        self._process: dict[str, subprocess.Popen[bytes]] = {}
        mail = LocalServers(folder / "data", names=["mail"], ephemeral=True)
        self._stack.callback(mail.stop)
        mark = uuid.uuid4().hex[:12]
        topics = {
            f"CUSTSVC_TOPIC_{name}": f"web-{name}-{mark}" for name in ("UPDATES", "NOTIFY", "FAILED", "DEAD")
        }
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CUSTSVC_")},
            **addresses,
            **topics,
            **mail.start(),
            "CUSTSVC_GROUP_PREFIX": f"web-{mark}-",
            "CUSTSVC_BACKEND": backend,
            "CUSTSVC_DATA_DIR": str(folder / "data"),
            "CUSTSVC_LOCAL": "never",
            "CUSTSVC_AUTH": "off",
            "CUSTSVC_PARTITIONS": "2",
            "CUSTSVC_HTTP_PORT": str(port),
            "CUSTSVC_WORKERS": "1",
            "CUSTSVC_WEBHOOK_ALLOW": "127.0.0.1",
        }

    def start(self, *roles: str) -> Site:
        for role in roles or ("relay", "replicate", "notify", "serve"):
            self._start(role)
        until("serve is ready", lambda: self._answers("/readyz") or self._has_ended(), 120)
        return self

    def _has_ended(self) -> bool:
        """Raises with what serve said last, should it have ended."""
        if self._process["serve"].poll() is None:
            return False
        raise AssertionError(
            (self._folder / "serve.log").read_text(encoding="utf-8", errors="replace")[-2000:]
        )

    def _start(self, role: str) -> None:
        log = (self._folder / f"{role}.log").open("wb")
        self._stack.callback(log.close)
        process = subprocess.Popen(
            [sys.executable, "-m", "custsvc", role], env=self.env, stdout=log, stderr=log
        )
        self._stack.callback(_end, process)
        self._process[role] = process

    def kill(self, role: str) -> None:
        """kill -9 of a role and its workers."""
        process = self._process[role]
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for pid in (process.pid, *map(int, children)):
            os.kill(pid, signal.SIGKILL)
        process.wait(60)

    def _answers(self, path: str) -> bool:
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Another client of the API, as curl would be one."""
        request = urllib.request.Request(
            f"{self.url}/api{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=DEADLINE) as response:
            text = response.read()
        return json.loads(text) if text else None

    def create(self, name: str, **fields: Any) -> dict[str, Any]:
        created: dict[str, Any] = self.api("POST", "/customers/", {"name": name, **fields})
        return created

    @contextmanager
    def store(self) -> Iterator[Store]:
        with open_store(self.settings()) as store:
            yield store

    def settings(self) -> Settings:
        """The settings that the roles run with."""
        return Settings.load(environ=self.env)

    def close(self) -> None:
        self._stack.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Watched:
    """A browser window that notes what no page may do: errors, policy violations, foreign requests."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.url = url
        self.wrong: list[str] = []
        self.context: BrowserContext = browser.new_context(
            base_url=url,
            **{"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce", **options},
        )
        self.context.set_default_timeout(DEADLINE * 1000)
        self.context.on("console", self._console)
        self.context.on("weberror", lambda error: self.wrong.append(f"error: {error.error}"))
        self.context.on("request", self._request)
        self.context.on("dialog", self._dialog)

    def _console(self, message: Any) -> None:
        # The browser reports a request that was refused on purpose as a failed load.
        expected = "status of 4" in message.text and "Failed to load resource" in message.text
        if message.type in ("error", "warning") and not expected:
            self.wrong.append(f"{message.type}: {message.text}")

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.url, "data:", "about:")):
            self.wrong.append(f"foreign request: {request.url}")

    def _dialog(self, dialog: Any) -> None:
        if dialog.type != "beforeunload":
            self.wrong.append(f"dialog: {dialog.message}")
        dialog.accept()

    def page(self, path: str = "") -> Page:
        page = self.context.new_page()
        if path:
            page.goto(path)
        return page

    def close(self) -> None:
        self.context.close()
