"""The artifact that ships: the wheel, installed without any extra, does all that it is for.

Every command and role is run for real, by an account that owns nothing, in a file system to read only.
"""

from __future__ import annotations

import csv
import io
import json
import os
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from custsvc.config import Settings
from custsvc.kafka import client as kafka
from custsvc.local import ports
from tests.chaos.roles import Role, request
from tests.setup.installed import Installed, NotHere, build_wheel
from tests.waiting import until

# Each command's help, and each module's import, in one process of the environment: a start for each costs.
_ALL_HELP = """
import typer.main
from typer.testing import CliRunner
from custsvc.cli import app

def walk(command, words):
    done = CliRunner().invoke(app, [*words, "--help"])
    print(" ".join(words) or "-", done.exit_code, "Usage:" in done.output)
    for name, inner in getattr(command, "commands", {}).items():
        walk(inner, [*words, name])

walk(typer.main.get_command(app), [])
"""
_ALL_MODULES = """
import importlib, pkgutil
import custsvc
from custsvc.runtime.extras import NotInstalled

for module in pkgutil.walk_packages(custsvc.__path__, "custsvc.", onerror=lambda name: None):
    if module.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(module.name)
    except NotInstalled as exc:
        assert module.name.startswith("custsvc.local."), module.name
        assert exc.fix == "pip install 'custsvc[local]'", exc.fix
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """The wheel in an environment of its own, made once."""
    installed = Installed()
    try:
        installed.install(build_wheel(tmp_path_factory.mktemp("wheel")))
        yield installed
    except NotHere as exc:
        if os.environ.get("CUSTSVC_TEST_REQUIRE"):
            raise
        pytest.skip(f"NOT CHECKED: {exc}")
    finally:
        installed.remove()


@pytest.fixture(scope="module")
def settings(servers: Any, all_databases: Callable[[str], Any]) -> Iterator[dict[str, str]]:
    """The addresses of all four servers, and names that are this test's alone."""
    mine = uuid.uuid4().hex[:12]
    urls = {backend: all_databases(backend).empty() for backend in ("postgres", "mongo")}
    topics = {f"topic_{name}": f"{name}-{mine}" for name in ("updates", "notify", "failed", "dead")}
    given = {"kafka": servers.url("kafka"), "smtp_url": servers.url("mail"), "partitions": "2", **topics}
    given["group_prefix"] = f"{mine}-"
    given |= {f"{backend}_url": url for backend, url in urls.items()}
    yield {f"CUSTSVC_{name.upper()}": value for name, value in given.items()}
    for backend, url in urls.items():
        all_databases(backend).drop(url)
    admin = kafka.admin(Settings(kafka=given["kafka"]))
    for deleted in admin.delete_topics(list(topics.values())).values():
        deleted.exception(60)


@pytest.fixture(scope="module")
def run(installed: Installed, settings: dict[str, str]) -> Callable[..., str]:
    """Run a command of the wheel with all addresses set and nowhere to write; gives what it printed."""

    def run(*arguments: str, code: int = 0, **options: Any) -> str:
        done = installed.run(*arguments, settings=settings, **options)
        assert done.returncode == code, f"{arguments} exited {done.returncode}:\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def roles(
    installed: Installed, settings: dict[str, str], run: Callable[..., str]
) -> Iterator[dict[str, Any]]:
    """Every role, running; `key` is an API key for them."""
    key = run("keys", "create", "tests", "--role", "admin").strip()
    place: dict[str, Any] = {"key": key, "port": ports.choose()}
    with ExitStack() as stack:
        for name in ("serve", "relay", "replicate", "notify"):
            port = place["port"] if name == "serve" else ports.choose()
            own = {"CUSTSVC_HTTP_PORT" if name == "serve" else "CUSTSVC_METRICS_PORT": str(port)}
            argv = installed.argv(
                name, settings={**settings, **own, "CUSTSVC_WORKERS": "1"}, may_write=name == "serve"
            )
            role = Role([], {}, installed.folder / f"{name}.log", argv)
            stack.callback(role.stop)
            place[name] = (role.start(), port)
        for name in ("serve", "relay", "replicate", "notify"):
            _wait_for_health(installed, name, *place[name])
        yield place


def _wait_for_health(installed: Installed, name: str, role: Role, port: int) -> None:
    def is_well() -> bool:
        assert role.is_running(), role.said()
        return installed.run("health", name, "--port", str(port)).returncode == 0

    until(f"{name} is well", is_well, 240, every=0.5)


def test_every_module_can_be_imported_or_says_what_to_install(installed: Installed) -> None:
    done = installed.run(installed.python, "-c", _ALL_MODULES)

    assert done.returncode == 0, done.stderr


def test_every_command_shows_its_help(installed: Installed) -> None:
    done = installed.run(installed.python, "-c", _ALL_HELP)

    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert len(lines) > 40
    assert [line for line in lines if not line.endswith(" 0 True")] == []


@pytest.mark.parametrize(
    "command", ["doctor", "config check", "config show -o json", "env -o json", "topics create", "migrate"]
)
def test_a_command_with_all_addresses_needs_no_extra(run: Callable[..., str], command: str) -> None:
    run(*command.split())


def test_env_prints_the_addresses_that_are_set(run: Callable[..., str], settings: dict[str, str]) -> None:
    printed = json.loads(run("env", "-o", "json"))

    assert {name: settings.get(name) for name in printed} == {**printed, "CUSTSVC_BACKEND": None}
    assert printed["CUSTSVC_BACKEND"] == "postgres"


def test_a_change_goes_all_the_way_through_the_roles(roles: dict[str, Any], run: Callable[..., str]) -> None:
    answer = request(
        roles["port"],
        "POST",
        "/api/customers/",
        {"name": "Ann", "email": "ann@example.com"},
        headers={"authorization": f"Bearer {roles['key']}"},
    )
    assert answer[0] == 201, answer

    def mails() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(run("notify", "list", "--state", "sent", "-o", "json"))
        return found

    until("the mail is sent", mails, 240, every=0.5)
    run("verify", "--wait", "120")
    for path in ("/metrics", "/ui/sign-in"):
        with urllib.request.urlopen(f"http://127.0.0.1:{roles['port']}{path}", timeout=30) as page:
            assert page.status == 200


def test_commands_work_beside_the_roles(
    roles: dict[str, Any], run: Callable[..., str], installed: Installed
) -> None:
    del roles
    run("seed", "3")
    exported = run("export", "-", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(exported)))
    assert len(rows) >= 3
    run("import", "-", "--format", "csv", "--dry-run", stdin=exported, may_write=True)
    run("tail-events", "--from", "beginning", "--count", "1", "--exit", "-o", "ndjson")
    run("replay", rows[0]["id"])
    run("status", "-o", "json")
    run("verify", "--wait", "120", "-o", "json")
    run("failed", "list", "-o", "json")
    run("topics", "list")
    for which in ("openapi", "events", "asyncapi"):
        assert json.loads(run("schema", which))
    assert run("doctor")
    run("bench", "pipeline", "--events", "20", "--seconds", "0.5", "--rate", "4", "--only", "seed")


def test_accounts_and_mails_are_looked_after(run: Callable[..., str], installed: Installed) -> None:
    run("users", "create", "ann", "--password-stdin", stdin="correct horse battery staple\n")
    run("users", "passwd", "ann", "--password-stdin", stdin="another horse battery staple\n")
    run("users", "list")
    run("users", "disable", "ann")
    prefix = run("keys", "create", "other").strip().rpartition("_")[0]
    assert run("keys", "list")
    assert prefix
    run("notify", "test", "ann@example.com")
    run("notify", "preview", "--sample", "created")
    run("notify", "unknown")
    run("notify", "suppressions", "list")
    run("notify", "init", str(installed.writable / "rules"), may_write=True)


def test_serve_without_any_folder_for_temporary_files_says_what_to_mount(
    installed: Installed, settings: dict[str, str]
) -> None:
    if os.geteuid() != 0:
        pytest.skip("NOT CHECKED: only root can take the folders for temporary files away")

    done = installed.run("serve", "--port", str(ports.choose()), settings=settings)

    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith("error: no folder takes temporary files (tried /tmp, /var/tmp, /dev/shm)")
    assert "fix: mount a tmpfs at /tmp, or set TMPDIR" in done.stderr


def test_a_health_check_of_a_role_that_is_away_is_one_line_and_exit_7(run: Callable[..., str]) -> None:
    port = str(ports.choose())

    for role in ("serve", "relay"):
        printed = run("health", role, "--port", port, code=7)

        assert printed == f"{role} at 127.0.0.1:{port}: does not answer (Connection refused)\n"


NEEDS = [
    ("up", {}, "local"),
    ("up --detach", {}, "local"),
    ("down", {}, "local"),
    ("env", {}, "local"),
    ("serve", {}, "local"),
    ("relay", {}, "local"),
    ("replicate", {}, "local"),
    ("notify", {}, "local"),
    ("status", {}, "local"),
    ("verify", {}, "local"),
    ("keys list", {}, "local"),
    ("topics list", {}, "local"),
    ("bench pipeline", {}, "local"),
    ("serve", {"CUSTSVC_OIDC_ISSUER": "https://login.example.org", "CUSTSVC_OIDC_CLIENT_ID": "me"}, "oidc"),
    ("notify", {"CUSTSVC_NOTIFY_RULES": "webhook.toml"}, "channels"),
    ("notify", {"CUSTSVC_NOTIFY_RULES": "apprise.toml"}, "channels"),
    ("doctor", {"CUSTSVC_NOTIFY_RULES": "webhook.toml"}, "channels"),
    ("topics schema check", {"CUSTSVC_SCHEMA_REGISTRY_URL": "http://127.0.0.1:1"}, "registry"),
]


@pytest.mark.parametrize(("command", "given", "extra"), NEEDS, ids=[f"{c} {e}" for c, _, e in NEEDS])
def test_a_command_that_needs_an_extra_names_it(
    installed: Installed, settings: dict[str, str], command: str, given: dict[str, str], extra: str
) -> None:
    for kind, url in (("webhook", "https://example.org/hook"), ("apprise", "json://example.org")):
        rules = installed.folder / f"{kind}.toml"
        rules.write_text(f'[channel.x]\nkind = "{kind}"\nurl = "{url}"\nsecret = "whsec_AAAA"\n')
    addresses = settings if given else {}
    given = {name: str(installed.folder / v) if v.endswith(".toml") else v for name, v in given.items()}

    done = installed.run(*command.split(), settings={**addresses, **given})

    assert done.returncode == (7 if command == "doctor" else 3), done.stderr
    assert f"pip install 'custsvc[{extra}]'" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    if extra == "local" and command not in ("up", "up --detach", "down", "env"):
        assert "set CUSTSVC_" in done.stderr
