"""A place that this account cannot write to is one line with its fix, whichever command was to use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from custsvc.cli import app, ending
from custsvc.local import jars

ROOT = typer.main.get_command(app)
# Each refuses root, too. The names of the folders are made below the test's own.
PLACES: dict[str, Callable[[Path], Path]] = {
    "below a file": lambda folder: folder / "file" / "below",
    "a name that is too long": lambda folder: folder / ("x" * 300),
    "a file system that the kernel writes": lambda _: Path("/proc/custsvc"),
}
COMMANDS = (
    "up --data-dir {}",
    "up --detach --data-dir {}",
    "serve --data-dir {}",
    "relay --data-dir {}",
    "keys list --data-dir {}",
    "bench pipeline --data-dir {}",
    "bench pipeline --save {}/figures.json",
    "notify init {}",
    "dashboards export {}",
    "export {}/customers.csv",
)


@pytest.fixture(autouse=True)
def _no_addresses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in ("POSTGRES_URL", "MONGO_URL", "KAFKA", "SMTP_URL", "DATA_DIR", "LOCAL"):
        monkeypatch.delenv(f"CUSTSVC_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    yield
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("command", COMMANDS)
def test_it_is_said_in_one_line_before_anything_is_made(
    command: str,
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = PLACES[place](tmp_path)
    if "--data-dir" not in command:
        monkeypatch.setenv("CUSTSVC_LOCAL", "never")  # so that a command that goes on starts no server

    code = ending.run(ROOT, command.format(path).split())

    told = capsys.readouterr()
    assert (code in (2, 3), told.out) == (True, ""), told.err
    error, fix = told.err.splitlines()
    assert error.startswith("error: ")
    assert str(path) in error
    assert fix.startswith("fix: ")


@pytest.mark.parametrize("place", [each for each in PLACES if each != "a file system that the kernel writes"])
def test_a_home_that_takes_no_file_gets_no_completion(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(PLACES[place](tmp_path)))

    code = ending.run(ROOT, ["--install-completion", "bash"])

    assert code == 3
    assert capsys.readouterr().err.startswith(f"error: cannot use {PLACES[place](tmp_path)}")


def test_an_account_without_a_home_gets_no_completion_and_no_jars(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("CUSTSVC_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", _no_home)

    code = ending.run(ROOT, ["--install-completion", "bash"])

    assert (code, capsys.readouterr().err) == (3, "error: this account has no home folder\nfix: set HOME\n")
    with pytest.raises(jars.NoKafka, match="no home folder"):
        jars.classpath(lambda _: None)


@pytest.mark.parametrize("place", PLACES)
def test_a_list_of_jars_that_cannot_be_kept_is_made_again(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUSTSVC_CACHE_DIR", str(PLACES[place](tmp_path)))
    found = [tmp_path / "file"]
    monkeypatch.setattr(jars, "_resolve", lambda: found)

    assert jars.classpath(lambda _: None) == found


def _no_home() -> Any:
    """As `Path.home` does it for an account that is in no list."""
    raise RuntimeError("Could not determine home directory.")
