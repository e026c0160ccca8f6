"""A folder that the database's account can reach, with servers that are removed after the test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from custsvc.local import LocalServers, runs


@pytest.fixture
def folder() -> Iterator[Path]:
    yield from _folder()


@pytest.fixture(scope="module")
def shared_folder() -> Iterator[Path]:
    yield from _folder()


def _folder() -> Iterator[Path]:
    # Not pytest's tmp_path: that is closed to the account PostgreSQL runs as when the tests run as root.
    path = Path(tempfile.mkdtemp(prefix="custsvc-test-"))
    path.chmod(0o755)
    yield path
    for data_dir in (path, path / "data"):
        runs.down(data_dir, lambda _line: None)
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def servers(shared_folder: Path) -> LocalServers:
    """All four, running; stopped with the folder."""
    servers = LocalServers(shared_folder)
    servers.start()
    return servers
