"""Takes the pictures of docs/screenshots/: the main pages with made-up customers, on a desktop and a phone.

Started by setup/screenshots.sh. Runs a custsvc of its own that keeps nothing.
"""

from __future__ import annotations

import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

FOLDER = Path(__file__).parent / "screenshots"
CUSTOMERS = 240
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 780}

# name → page, and which of light and dark on which device.
SHOTS = {
    "webhook": ("", ("desktop-light",)),
    "customers": ("/ui/customers", ("desktop-light", "desktop-dark", "phone-light")),
    "customer": ("/ui/customers/7", ("desktop-light", "phone-dark")),
    "conflict": ("", ("desktop-light",)),
    "activity": ("/ui/activity", ("desktop-dark", "phone-light")),
    "pipeline": ("/ui/pipeline", ("desktop-light", "desktop-dark")),
    "import": ("", ("desktop-light",)),
    "mails": ("/ui/mails", ("desktop-light",)),
    "duplicates": ("/ui/duplicates", ("desktop-light",)),
}


def call(url: str, method: str = "GET", body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(  # noqa: S310 - our own server
        url, data=data, method=method, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
        text = response.read()
    return json.loads(text) if text else None


def wait_until_seeded(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if call(f"{url}/api/customers/?limit=1")["count"] >= CUSTOMERS:
                return
        except OSError:
            pass
        time.sleep(0.5)
    raise SystemExit("custsvc up did not come up with its customers")


def tell_a_story(url: str) -> None:
    """Some changes, so that there is something to see."""
    api = f"{url}/api/customers"
    call(f"{api}/7/", "PATCH", {"phone": "+44 20 7946 0321", "metadata": {"tier": "silver"}})
    call(f"{api}/7/", "PATCH", {"name": "Tomasz B. Allen"})
    call(f"{api}/7/", "PATCH", {"metadata": {"tier": "gold", "newsletter": True}})
    for customer, change in (
        (12, {"phone": None}),
        (31, {"metadata": {"tier": "gold"}}),
        (58, {"name": "Zoë Åkesson"}),
    ):
        call(f"{api}/{customer}/", "PATCH", change)
    call(f"{api}/44/", "DELETE")
    call(
        f"{api}/", "POST", {"name": "Ada Lovelace", "email": "ada@example.org", "metadata": {"tier": "gold"}}
    )
    call(f"{api}/", "POST", {"name": "A. Lovelace", "email": "Ada@example.org", "phone": "+44 20 7946 0958"})
    time.sleep(5)


@contextmanager
def webhook(url: str) -> Iterator[str]:
    """The address of the page of an endpoint that has got some changes, and will get one again later."""
    answers = [200, 200, 503]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            code = answers.pop(0) if answers else 503
            text = b"ok" if code == 200 else b"down for repair"
            self.send_response(code)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        to = {"url": f"http://127.0.0.1:{server.server_address[1]}/customers", "description": "Our CRM"}
        made = call(f"{url}/api/webhooks", "POST", {**to, "email": "ops@example.org"})
        for customer in (12, 31, 58):
            call(f"{url}/api/customers/{customer}/", "PATCH", {"metadata": {"tier": "silver"}})
        time.sleep(5)
        yield f"/ui/admin/webhooks/one?id={made['id']}"
        server.shutdown()


def shoot(browser: Browser, url: str, name: str, path: str, kind: str) -> None:
    device, scheme = kind.split("-")
    context = browser.new_context(
        base_url=url,
        viewport=DESKTOP if device == "desktop" else PHONE,  # type: ignore[arg-type]
        color_scheme=scheme,  # type: ignore[arg-type]
        reduced_motion="reduce",
    )
    page = context.new_page()
    if name == "conflict":
        customer = call(f"{url}/api/customers/7/")
        page.goto("/ui/customers/7/edit")
        call(
            f"{url}/api/customers/7/", "PATCH", {"email": "t.allen@example.net", "phone": "+44 20 7946 0999"}
        )
        page.get_by_label("E-mail").fill("tomasz@example.org")
        page.get_by_role("button", name="Save").click()
        page.get_by_role("heading", name="Changed at the same time").wait_for()
        page.screenshot(path=FOLDER / f"{name}-{kind}.png")
        call(f"{url}/api/customers/7/", "PATCH", {k: customer[k] for k in ("email", "phone")})
    elif name == "import":
        rows = "name,email,phone,segment\nMary Jackson,mary@example.org,,research\n"
        rows += "Tomasz Allen,{},+44 20 7946 0001,\nNobody,not an address,,\n"
        known = call(f"{url}/api/customers/9/")["email"]
        page.goto("/ui/import")
        page.get_by_label("File").set_input_files(
            {"name": "people.csv", "mimeType": "text/csv", "buffer": rows.format(known).encode()}
        )
        page.get_by_role("button", name="Go on").click()
        page.get_by_role("button", name="Show what would happen").click()
        page.locator(".tiles").wait_for()
        page.screenshot(path=FOLDER / f"{name}-{kind}.png")
    else:
        page.goto(path)
        page.wait_for_timeout(3500 if name == "pipeline" else 1000)
        page.screenshot(path=FOLDER / f"{name}-{kind}.png")
    context.close()


def main() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://localhost:{port}"
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        options = [
            "--ephemeral",
            "--seed",
            str(CUSTOMERS),
            "--port",
            str(port),
            "--data-dir",
            f"{folder}/data",
        ]
        env = {**os.environ, "CUSTSVC_WEBHOOK_ALLOW": "127.0.0.1"}
        process = subprocess.Popen([sys.executable, "-m", "custsvc", "up", *options], env=env)
        try:
            wait_until_seeded(url, process)
            tell_a_story(url)
            with webhook(url) as endpoint, sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=shutil.which("chromium"), args=list(FLAGS)
                )
                for name, (path, kinds) in SHOTS.items():
                    for kind in kinds:
                        shoot(browser, url, name, path or endpoint, kind)
                browser.close()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    size = sum(path.stat().st_size for path in FOLDER.glob("*.png"))
    print(f"{len(list(FOLDER.glob('*.png')))} pictures in {FOLDER}, {size / 1024:.0f} kB")  # noqa: T201


if __name__ == "__main__":
    main()
