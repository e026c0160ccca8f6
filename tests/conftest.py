"""Real servers for the tests, each started when a test first needs it, and a fresh database per test."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, settings

from custsvc import redact
from custsvc.accounts import passwords
from custsvc.errors import CustsvcError
from custsvc.local import LocalServers, ports
from custsvc.ports.store import Store
from custsvc.runtime import metrics
from custsvc.runtime.gc import spare_batches
from tests.addresses import through
from tests.backdoor import Backdoor, MongoBackdoor, PostgresBackdoor
from tests.chaos.faultproxy import FaultProxy
from tests.databases import Databases, MongoDatabases, PostgresDatabases, open_database
from tests.run_folder import RunFolder, remove_left

# What takes longest, the longest first: modules, a folder of one process, and then the rest of whole folders.
_LONGEST = (
    *("web/browser", "setup/test_wheel.py", "notify/test_run.py", "chaos/test_crashes.py"),
    *("chaos/test_copy_faults.py", "api/test_server.py", "local/test_up.py", "api/test_schemathesis.py"),
    *("chaos/test_topic_loss.py", "notify/test_any_answers.py", "e2e/test_kill.py", "local/test_lag.py"),
    *("transfer/test_incomplete.py", "api/test_webhooks.py", "notify/test_scenarios.py"),
    *("chaos", "e2e", "local", "web", "notify", "transfer", "integration", "setup"),
)
# Modules that share what is slow to start: a browser and a site, a Kafka with many ways to sign in. One
# process of a parallel run has all of a group.
_TOGETHER = (
    ("tests/web/browser/",),
    tuple(f"tests/integration/test_{name}.py" for name in ("acls", "msk", "refused", "refused_databases")),
)

_TESTS = Path(__file__).parent

# Where the embedded servers of this run are, the same for all processes of a parallel one (pytest-xdist).
_FOLDER = "CUSTSVC_TEST_FOLDER"
_RUN: pytest.StashKey[RunFolder] = pytest.StashKey()


# Examples take as long as the machine is busy. Where a run decides something, all of them try the same ones.
settings.register_profile(
    "custsvc",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    database=None,
    derandomize=bool(os.environ.get("CI")),
)
settings.load_profile("custsvc")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        base = Path(tempfile.gettempdir())
        remove_left(base)
        config.stash[_RUN] = RunFolder(base)
        os.environ[_FOLDER] = str(config.stash[_RUN].path)
    else:
        _choose_own_ports(config.workerinput)


def _choose_own_ports(worker: Mapping[str, Any]) -> None:
    """Give each process of a parallel run its part of the ports, so that no two choose the same one."""
    number, count = int(worker["workerid"].removeprefix("gw")), int(worker["workercount"])
    each = (ports._LAST - ports._FIRST) // count
    ports._FIRST += number * each
    ports._LAST = ports._FIRST + each


def pytest_unconfigure(config: pytest.Config) -> None:
    if _RUN in config.stash:
        config.stash[_RUN].remove()
        del os.environ[_FOLDER]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a parallel run what takes long begins first, so that no process ends long after the others."""
    if hasattr(config, "workerinput"):
        places = {name: place for place, name in enumerate(_LONGEST)}

        def place(item: pytest.Item) -> int:
            path = item.path.relative_to(_TESTS)
            names = [each.as_posix() for each in (path, *path.parents)]
            return next((places[name] for name in names if name in places), len(places))

        items.sort(key=place)


@pytest.hookimpl(tryfirst=True, optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """As `--dist loadscope`, but some modules go to a process together."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            groups = (group[0] for group in _TOGETHER if nodeid.startswith(group))
            return next(groups, str(super()._split_scope(nodeid)))

    return Scheduling(config, log) if config.getvalue("dist") == "loadscope" else None


def pytest_collection_finish() -> None:
    """Have Python look for garbage as seldom as custsvc does: what was collected stays till the end.

    Looking through it again and again was three quarters of the time to make an app, which every test of a
    route does.
    """
    spare_batches()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Have what was logged fit to be sent from one process to another: tests log half characters, too."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report


@pytest.fixture(autouse=True)
def nothing_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test begins as a process does: no setting's secret is known, and no loop has gone round."""
    monkeypatch.setattr(redact, "_forms", set())
    monkeypatch.setattr(redact, "_pattern", None)
    for name in ("_beats", "_lags", "_waiting", "_followed"):
        monkeypatch.setattr(metrics, name, {})
    for name in ("_events", "_loops"):
        monkeypatch.setattr(metrics, name, Counter())


@pytest.fixture(autouse=True)
def cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes that cost a thousandth of the real ones, which tests/unit/test_passwords.py has."""
    monkeypatch.setattr(passwords, "_N", 2**5)
    monkeypatch.setattr(passwords, "_nobody", lambda: passwords.hash_password("nobody at all"))


class Servers:
    """The servers' addresses: those of `CUSTSVC_TEST_…`, else embedded ones, gone after the run."""

    def __init__(self) -> None:
        self._urls: dict[str, str] = {}

    def url(self, name: str) -> str:
        """The address of `postgres`, `mongo`, `kafka` or `mail`. Skips the test where it cannot be had."""
        if name not in self._urls:
            # Started by whichever process comes first, joined by the others.
            local = LocalServers(Path(os.environ[_FOLDER]) / name, names=[name], ephemeral=True)
            variable = local.server(name).variable
            self._urls[name] = os.environ.get(variable.replace("_", "_TEST_", 1)) or self._start(local, name)
        return self._urls[name]

    def _start(self, local: LocalServers, name: str) -> str:
        try:
            (url,) = local.start().values()
        except CustsvcError as exc:
            if os.environ.get("CUSTSVC_TEST_REQUIRE"):
                raise
            pytest.skip(f"no {name} here: {exc}")
        return url


@pytest.fixture(scope="session")
def servers() -> Servers:
    return Servers()


@pytest.fixture(scope="session")
def all_databases(servers: Servers) -> Iterator[Callable[[str], Databases]]:
    """Makes databases of a backend."""
    opened: dict[str, Databases] = {}

    def of(backend: str) -> Databases:
        if backend not in opened:
            kind = PostgresDatabases if backend == "postgres" else MongoDatabases
            opened[backend] = kind(servers.url(backend))
        return opened[backend]

    yield of
    for databases in opened.values():
        databases.close()


@pytest.fixture(params=["postgres", "mongo"])
def backend(request: pytest.FixtureRequest) -> str:
    """The word of a backend; a test that asks for it, or for what builds on it, runs once on each."""
    return str(request.param)


@pytest.fixture
def new_database(backend: str, all_databases: Callable[[str], Databases]) -> Iterator[Callable[[], str]]:
    """Makes migrated databases, dropped after the test; returns the address."""
    databases = all_databases(backend)
    made: list[str] = []

    def make() -> str:
        made.append(databases.migrated())
        return made[-1]

    yield make
    for url in made:
        databases.drop(url)


@pytest.fixture
def empty_database(backend: str, all_databases: Callable[[str], Databases]) -> Iterator[str]:
    """The address of a database without anything in it."""
    databases = all_databases(backend)
    url = databases.empty()
    yield url
    databases.drop(url)


@pytest.fixture
def database_url(new_database: Callable[[], str]) -> str:
    """The address of the test's own, migrated database."""
    return new_database()


@pytest.fixture
def opened(backend: str) -> Iterator[Callable[[str], Store]]:
    """Opens stores by their address, as so many processes would; closes them after the test."""
    with ExitStack() as stack:
        yield lambda url: stack.enter_context(open_database(backend, url))


@pytest.fixture
def store(opened: Callable[[str], Store], database_url: str) -> Store:
    """A store on an empty, migrated database."""
    return opened(database_url)


@pytest.fixture
def other_store(opened: Callable[[str], Store], database_url: str) -> Store:
    """A second store on the same database, as another process has it."""
    return opened(database_url)


@pytest.fixture
def backdoor(backend: str, database_url: str) -> Iterator[Backdoor]:
    kind = PostgresBackdoor if backend == "postgres" else MongoBackdoor
    with closing(kind(database_url)) as backdoor:
        yield backdoor


@pytest.fixture
def proxy(database_url: str) -> Iterator[FaultProxy]:
    """A way to the test's database that can lose a request, or the reply to one, and can be shut."""
    parts = urlsplit(database_url)
    with FaultProxy((parts.hostname or "127.0.0.1", parts.port or 5432)) as proxy:
        yield proxy


@pytest.fixture
def proxied(database_url: str, proxy: FaultProxy, opened: Callable[[str], Store]) -> Store:
    """The test's store, reached through the proxy."""
    return opened(through(database_url, proxy.port))
