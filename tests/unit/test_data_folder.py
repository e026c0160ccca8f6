"""A data folder knows its system of record, which is the default backend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from custsvc.cli.common import load
from custsvc.local.state import Known, State

OWN = {
    "postgres": "postgresql://custsvc:x@127.0.0.1:20001/custsvc",
    "mongo": "mongodb://127.0.0.1:20002/custsvc",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("BACKEND", "POSTGRES_URL", "MONGO_URL", "KAFKA", "SMTP_URL", "DATA_DIR"):
        monkeypatch.delenv(f"CUSTSVC_{name}", raising=False)
    return tmp_path / "data"


def remember(folder: Path, source: str | None, file: str = "servers.json") -> None:
    folder.mkdir(exist_ok=True)
    content: dict[str, Any] = {"servers": {name: {"url": url} for name, url in OWN.items()}}
    if source is not None:
        content["source"] = source
    (folder / file).write_text(json.dumps(content))


@pytest.mark.parametrize("source", ["postgres", "mongo"])
@pytest.mark.parametrize("file", ["servers.json", "ephemeral.json"])
def test_the_backend_that_nobody_chose_is_the_folders(folder: Path, source: str, file: str) -> None:
    remember(folder, source, file)

    settings = load({"data_dir": folder})

    assert settings.backend == source
    assert settings.origins["backend"] == str(folder)


@pytest.mark.parametrize("how", ["flag", "environment", "file"])
def test_a_backend_that_somebody_chose_wins(folder: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    remember(folder, "mongo")
    if how == "environment":
        monkeypatch.setenv("CUSTSVC_BACKEND", "postgres")
    elif how == "file":
        Path("custsvc.toml").write_text('backend = "postgres"\n')

    settings = load({"data_dir": folder, "backend": "postgres" if how == "flag" else None})

    assert settings.backend == "postgres"


@pytest.mark.parametrize("name", ["POSTGRES_URL", "MONGO_URL"])
def test_a_folder_has_no_say_over_servers_that_are_elsewhere(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    remember(folder, "mongo")
    monkeypatch.setenv(
        f"CUSTSVC_{name}", "postgresql://db.example.org/x" if "POST" in name else "mongodb://db/x"
    )

    assert load({"data_dir": folder}).backend == "postgres"


def test_the_folders_own_addresses_are_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remember(folder, "mongo")
    for name, url in OWN.items():
        monkeypatch.setenv(f"CUSTSVC_{name.upper()}_URL", url)

    assert load({"data_dir": folder}).backend == "mongo"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"source": "oracle"}', '{"source": 7}', '{"servers": {}}']
)
def test_a_data_folder_without_a_known_source_leaves_the_default(folder: Path, content: str) -> None:
    folder.mkdir()
    (folder / "servers.json").write_text(content)

    assert load({"data_dir": folder}).backend == "postgres"


def test_whoever_comes_first_decides_and_the_servers_records_stay(folder: Path) -> None:
    remember(folder, None)
    state = State(folder / "servers.json")

    state.put_source("mongo")
    state.put_source("postgres")
    state.put("kafka", {"url": "127.0.0.1:20003"})

    known = Known.of(folder)
    assert known.source == "mongo"
    assert [known.url(name) for name in ("postgres", "kafka")] == [OWN["postgres"], "127.0.0.1:20003"]
